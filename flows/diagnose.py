"""Which of six problems a run has: `python -m flows.diagnose --run RUN [--against RUN2] [--measure]`.

It looks at what the run left behind, and makes no run of its own. `python -m lifecycle diagnose` says the same without
Prefect.
"""

from flows import cli

if __name__ == "__main__":  # before the heavy imports: see full_lifecycle
    raise SystemExit(cli.main("diagnose"))

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from lifecycle.report.diagnosis import headline
from tasks.explanation import look_at, publish
from tasks.session import DiagnosisRequest, store_of


@flow(name="diagnose", persist_result=False)
def diagnose(request: DiagnosisRequest) -> State[None]:
    """A ranked answer with its evidence, in the UI and on the run's page. Nothing is trained or promoted."""
    store = store_of(request)
    found, beside = look_at(store, request)
    page = publish(store, found, beside)
    print(f"{found.run}: {headline(found)}\n{page}", flush=True)
    return Completed(name="Diagnosed", message=f"{found.run}: {headline(found)}")
