"""What tests of the tracker share."""

import pytest


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> str:
    """One MLflow database for all tests here: making it costs 2-5 s. Each test has a model name of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
