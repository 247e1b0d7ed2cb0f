"""Raw text to a gated release: `python -m flows.full_lifecycle --recipe tiny`."""

from flows import cli

if __name__ == "__main__":  # here, so that a wrong setting is refused before the imports below have cost 2-5 s
    raise SystemExit(cli.main("full_lifecycle"))

from prefect import flow

from flows import missed
from flows.evaluate_release import EVALUATE_RELEASE, Ending, evaluate_release
from flows.post_train import POST_TRAIN, post_train
from flows.prepare_data import PREPARE_DATA, prepare_data
from flows.train_base import TRAIN_BASE, train_base
from tasks.session import Request, working_on

PLAN = (*PREPARE_DATA, *TRAIN_BASE, *POST_TRAIN, *EVALUATE_RELEASE)


@flow(name="full-lifecycle", persist_result=False)
def full_lifecycle(request: Request) -> Ending:
    """The whole chain. What is sealed already is reused; a checkpoint goes live only through the gate."""
    missed.let_go()
    with working_on(request, "full-lifecycle", PLAN) as run:
        data = prepare_data(run)
        base = train_base(run, data)
        trained = post_train(run, data.suites, base, data.text)
        return evaluate_release(run, data, trained)
