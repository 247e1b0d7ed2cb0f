"""`desk`: people compare two answers on a small page, and what a majority preferred becomes pairs to train on."""

import argparse
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lifecycle.commands import existing_store, of_a_store
from lifecycle.commands.model import model_folder
from lifecycle.errors import ConfigError, InputError

ACTIONS = ("serve", "export", "renew", "revoke")
LOWEST_AGREEMENT = 0.4
"""Labellers who agree on 72.6 % of pairs, as InstructGPT's did (Ouyang et al. 2022, section 3.4), have about 0.45."""


def add(commands: Any) -> None:
    """Add it to a parser."""
    desk = commands.add_parser(
        "desk",
        help="a page where people compare two answers, blind; `desk export` makes pairs to train on of their votes",
    )
    desk.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        default="serve",
        help="serve (default); export: pairs from votes; renew, revoke: somebody's link",
    )
    desk.add_argument("folder", nargs="?", type=Path, help="of a desk that is there already")
    desk.add_argument("name", nargs="?", help="of renew and revoke: whose link")
    desk.add_argument("--answers", type=Path, action="append", default=[], metavar="FILE", help="compare these answers")
    desk.add_argument("--checkpoint", metavar="A", help="a run or a checkpoint folder: answers are drawn from it first")
    desk.add_argument("--against", metavar="B", help="another one, compared with it")
    desk.add_argument("--prompts", type=Path, metavar="FILE", help="what to ask the checkpoints: rows with a `prompt`")
    desk.add_argument("--samples", type=int, metavar="N", help="answers a prompt; default: 2, or 1 of each checkpoint")
    desk.add_argument("--temperature", type=float, default=0.7, help="of drawn answers; default: 0.7")
    desk.add_argument("--max-new-tokens", type=int, default=256, help="of a drawn answer; default: 256")
    desk.add_argument("--gold", type=Path, metavar="FILE", help="pairs whose better answer is known, mixed in")
    desk.add_argument("--seed", type=int, default=0, help="of answers and of the order of pairs; default: 0")
    desk.add_argument("--pairs-per-prompt", type=int, default=3, help="at most; default: 3")
    desk.add_argument("--repeat-share", type=float, default=0.1, help="shown twice, sides swapped; default: 0.1")
    desk.add_argument("--votes-per-item", type=int, metavar="K", help="people a pair is shown to; default: everybody")
    desk.add_argument("--annotators", type=int, default=1, metavar="N", help="links to make; default: 1")
    desk.add_argument("--to", type=Path, metavar="DIR", help="where a new desk is kept; default: in the store")
    desk.add_argument("--host", default="127.0.0.1", help="another than loopback also needs --expose")
    desk.add_argument("--port", type=int, default=8790, help="0 takes a free one; default: 8790")
    desk.add_argument(
        "--public-url", metavar="URL", help="the address people use, where a proxy stands before the desk"
    )
    desk.add_argument("--expose", action="store_true", help="serve on a network where others may listen in")
    desk.add_argument("--out", type=Path, default=Path("comparisons.jsonl"), help="of export: the file of pairs")
    desk.add_argument(
        "--minimum-agreement",
        default=LOWEST_AGREEMENT,
        type=_agreement,
        metavar="X",
        help=f"of export: Krippendorff's alpha; default: {LOWEST_AGREEMENT}. `none` asks for none, and is recorded",
    )
    desk.add_argument("--minimum-votes", type=int, default=1, help="of export: people a pair needs; default: 1")
    of_a_store(desk)
    desk.set_defaults(run_command=run_desk)


def run_desk(asked: argparse.Namespace) -> int:
    """Do what was asked for, with a desk that is there or a new one."""
    if asked.action == "serve":
        return serve(asked)
    if asked.folder is None:
        raise InputError(f"expected the folder of a desk, found none. Give it: desk {asked.action} FOLDER.")
    if asked.action == "export":
        return export(asked)
    return change_link(asked)


def serve(asked: argparse.Namespace) -> int:
    """Make the desk where there is none yet, print its links and serve it."""
    from lifecycle.desk.folder import Desk
    from lifecycle.desk.make import made
    from lifecycle.desk.serve import check_exposure
    from lifecycle.desk.serve import serve as serve_desk

    where = {"host": asked.host, "public_url": asked.public_url, "expose": asked.expose}
    check_exposure(**where)  # before minutes of sampling
    desk = Desk(asked.folder) if asked.folder is not None else made(_wanted(asked), asked.to)
    print(f"{len(desk.items):,} pairs in {desk.folder}. Stop with Ctrl-C; the same command goes on.", flush=True)
    serve_desk(desk, annotators=asked.annotators, port=asked.port, **where, tell=lambda line: print(line, flush=True))
    return 0


def export(asked: argparse.Namespace) -> int:
    """Write pairs, ties and where they come from, or say why not."""
    from lifecycle.desk.export import export as export_pairs
    from lifecycle.desk.folder import Desk

    done = export_pairs(
        Desk(asked.folder), asked.out, minimum_agreement=asked.minimum_agreement, minimum_votes=asked.minimum_votes
    )
    alpha = "not measured" if done.alpha is None else f"{done.alpha:.2f}"
    print(f"{asked.out}: {done.pairs:,} pairs, agreement {alpha}. {done.ties_file}: {done.ties:,} ties.")
    return 0


def change_link(asked: argparse.Namespace) -> int:
    """End somebody's link, or put a new one in its place."""
    from lifecycle.desk.folder import Desk

    people = Desk(asked.folder).people
    if asked.action == "renew":
        print(f"{asked.name}: /a/{people.renew(asked.name or '').token} behind the address of the desk")
    else:
        people.revoke(asked.name or "")
        print(f"{asked.name}: the link is dead. Votes cast with it stay.")
    return 0


def _wanted(asked: argparse.Namespace) -> Any:
    """What a new desk is to be made of."""
    from lifecycle.desk.folder import DeskConfig
    from lifecycle.desk.make import Wanted

    names = [name for name in (asked.checkpoint, asked.against) if name is not None]
    try:
        config = DeskConfig(
            seed=asked.seed,
            pairs_per_prompt=asked.pairs_per_prompt,
            repeat_share=asked.repeat_share,
            votes_per_item=asked.votes_per_item,
        )
    except ValidationError as error:
        odd = "; ".join(f"--{str(each['loc'][0]).replace('_', '-')} {each['input']}" for each in error.errors())
        raise ConfigError(f"expected settings of a desk, found {odd}. See `desk --help`.") from error
    return Wanted(
        config=config,
        answers=asked.answers,
        gold=asked.gold,
        prompts=asked.prompts,
        checkpoints={name: _checkpoint(name, asked.store) for name in names},
        samples=asked.samples,
        temperature=asked.temperature,
        max_new_tokens=asked.max_new_tokens,
        store=Path(asked.store),
    )


def _checkpoint(name: str, store: str) -> Path:
    """The folder itself, or the last checkpoint of a run."""
    folder = Path(name)
    return folder if (folder / "config.json").is_file() else model_folder(existing_store(store), name, None)


def _agreement(text: str) -> float | None:
    """A number of at most 1, or `none`."""
    number = None if text == "none" else float(text)
    if number is not None and not number <= 1:  # nan is nothing to reach either
        raise ValueError(text)
    return number
