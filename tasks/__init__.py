"""How often, where and with what record: a thin Prefect task around every stage."""
