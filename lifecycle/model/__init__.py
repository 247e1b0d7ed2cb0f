"""What the network is: its shape, its parameter count, and how DeepSpeed spreads it over ranks."""
