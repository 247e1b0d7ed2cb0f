"""Every kind of suite. A new one is a file here with a subclass of `Suite`, and its name in `AnySuite`."""

from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from lifecycle.artifacts import Suites
from lifecycle.evaluation.kinds.contract import ContractSuite
from lifecycle.evaluation.kinds.harness import HarnessSuite
from lifecycle.evaluation.kinds.instructions import InstructionSuite
from lifecycle.evaluation.kinds.multiple_choice import MultipleChoiceSuite
from lifecycle.evaluation.kinds.pairwise import PairwiseSuite
from lifecycle.evaluation.kinds.pass_at_k import PassAtKSuite
from lifecycle.evaluation.kinds.protocol import ProtocolSuite
from lifecycle.evaluation.kinds.suite import Suite

AnySuite = Annotated[
    ContractSuite
    | HarnessSuite
    | InstructionSuite
    | MultipleChoiceSuite
    | PairwiseSuite
    | PassAtKSuite
    | ProtocolSuite,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[Suite]] = {kind.model_fields["kind"].default: kind for kind in get_args(get_args(AnySuite)[0])}
_ANY: TypeAdapter[Suite] = TypeAdapter(AnySuite)


def sealed_suite(suites: Suites, name: str) -> Suite:
    """A suite as it was collected, its path that of the sealed rows."""
    settings: dict[str, Any] = {"kind": "contract", "name": name, **suites.settings.get(name, {})}
    return _ANY.validate_python({**settings, "path": suites.file_of(name)}).opened(suites.path)
