"""How a network is trained: schedule, loss, batches, loop, checkpoints. Stages do not import from here: it is heavy."""
