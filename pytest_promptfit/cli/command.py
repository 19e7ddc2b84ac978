"""The ``promptfit`` command: its arguments, and what they call. What each does lives in the module of its name."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

EPILOG = """\
The tests themselves run with pytest:
  pytest --promptfit --promptfit-record --promptfit-update   ask the model, accept the outcomes as the baseline
  pytest --promptfit                                         replay: offline, no key, no cost
  pytest --tune                                              make the prompts better
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code; a mistake of the user is one line, without a traceback."""
    chosen = vars(_parser().parse_args(arguments))
    command = chosen.pop("command")
    # Behind the parser, so that --help is there at once.
    from pytest_promptfit.errors import PromptfitError
    from pytest_promptfit.text import plain

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no text is a reason to fail, whatever the terminal can show
            stream.reconfigure(errors="backslashreplace")
    try:
        for line in _lines(command, chosen):
            print(line)
        sys.stdout.flush()
    except PromptfitError as error:
        print(f"promptfit {command}: {plain(str(error), keep_lines=True)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # what has arrived is kept
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return 1
    return 0


def _lines(command: str, chosen: dict[str, Any]) -> Iterable[str]:
    """Return what a command prints; only what it needs is imported."""
    if command == "init":
        from pytest_promptfit.cli.init import init

        return init(**chosen)
    if command == "show":
        from pytest_promptfit.cli.show import show

        return show(**chosen)
    if command == "why":
        from pytest_promptfit.cli.why import why

        return why(**chosen)
    if command == "noise":
        from pytest_promptfit.cli.noise import noise

        return noise(**chosen)
    if command == "compare":
        from pytest_promptfit.cli.compare import compare

        return compare(**chosen)
    if command == "migrate":
        from pytest_promptfit.cli.migrate import migrate

        return migrate(**chosen)
    if command == "models":
        from pytest_promptfit.cli.models import models

        return models(**chosen)
    from pytest_promptfit.prompts.read import json_schema

    return [json.dumps(json_schema(), indent=2)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="promptfit",
        description="Start and look at prompt files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    about = "write a prompt file for a file with texts and labels"
    init = commands.add_parser(
        "init",
        help=about,
        description=f"{about.capitalize()}: guess its columns, say why, and tell what to do next. "
        "Asks no model, and never overwrites a file.",
    )
    init.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="csv, tsv, jsonl, json, yaml or parquet; promptfoo's configuration or tests; OpenAI's evals or "
        "fine-tuning data",
    )
    init.add_argument("--text", metavar="COLUMN", help="the texts: a column, or a template: '{title}\\n{body}'")
    init.add_argument("--label", metavar="COLUMN", help="the labels")
    init.add_argument(
        "--model",
        metavar="PROVIDER/NAME",
        help="the model to ask (default: local/smollm2-135m where it is installed, else a small one whose key is set)",
    )
    init.add_argument(
        "--output", type=Path, metavar="PATH", help="the prompt file (default: prompts/<name of DATA>.prompt.yaml)"
    )
    init.add_argument(
        "--rows",
        type=_positive,
        metavar="N",
        help="draw N rows, each label with its share, into a csv beside the prompt file; leaves out rows that "
        "cannot be samples",
    )
    about = "print what is sent to the model for a sample"
    show = commands.add_parser(
        "show",
        help=about,
        description=f"{about.capitalize()}, its tokens, and the price of a full run. Asks no model.",
    )
    show.add_argument("prompt", metavar="PROMPT", help="a prompt file, or path::case as pytest writes it")
    show.add_argument("--sample", metavar="ID", help="the id of a sample (default: the first one)")
    show.add_argument("--json", action="store_true", dest="as_json", help="print the JSON body alone")
    _add_cassettes(show)
    about = "compare prompt files, or one under several models"
    compare = commands.add_parser(
        "compare",
        help=about,
        description=f"{about.capitalize()}, on the samples that they share, by a paired test. Replays what is "
        "recorded, and asks for the rest with --record.",
    )
    compare.add_argument("prompts", nargs="+", type=Path, metavar="PROMPT", help="prompt files")
    compare.add_argument(
        "--model",
        action="append",
        default=[],
        dest="models",
        metavar="PROVIDER/NAME",
        help="ask this model instead of the file's own; may be given several times (one file and one model: it is "
        "compared with the file's own)",
    )
    _add_record(compare, "ask the models for the replies that are not recorded")
    compare.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for machines")
    compare.add_argument("--html", type=Path, metavar="FILE", help="write a page with the samples on which they differ")
    _add_cassettes(compare)
    _add_why(commands)
    _add_migrate(commands)
    _add_models(commands)
    _add_noise(commands)
    about = "print the JSON Schema of the prompt file, for editors"
    commands.add_parser("schema", help=about, description=f"{about.capitalize()}.")
    return parser


def _add_cassettes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cassettes",
        type=Path,
        metavar="FOLDER",
        help="where the replies are recorded (default: cassettes in the project's root)",
    )


def _add_why(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "print which samples need each sentence and example of a prompt, and which text is dead"
    why = commands.add_parser(
        "why",
        help=about,
        description=f"{about.capitalize()}: each piece is left out alone. Recorded replies are used; --record asks "
        "for the rest.",
    )
    why.add_argument("prompt", metavar="PROMPT", help="a prompt file")
    why.add_argument(
        "--record",
        action="store_true",
        dest="asks",
        help="ask the model for the replies that are not recorded, the most promising first",
    )
    _add_limits(why)
    why.add_argument(
        "--samples", type=_positive, metavar="N", help="labeled samples to take at most, a balanced draw (default: 200)"
    )
    why.add_argument("--json", action="store_true", dest="as_json", help="print JSON, which names all samples")
    _add_cassettes(why)


def _add_migrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "switch a prompt file to another model, if that is not worse"
    migrate = commands.add_parser(
        "migrate",
        help=about,
        description=f"{about.capitalize()}: judge the new model by what was accepted, tune the prompt where it is "
        "worse, write prompt file, recordings and baseline, and print the pull request's text. Replays what is "
        "recorded, and asks for the rest with --record.",
    )
    migrate.add_argument("prompt", type=Path, metavar="PROMPT", help="a prompt file")
    migrate.add_argument("--to", required=True, metavar="PROVIDER/NAME", help="the new model")
    migrate.add_argument(
        "--params",
        type=_params,
        metavar="YAML",
        help="its parameters: '{temperature: 0}' (default: the file's own where they fit, else what the model takes)",
    )
    _add_record(migrate, "ask the models for the replies that are not recorded")
    migrate.add_argument("--no-tune", action="store_false", dest="tunes", help="leave the prompt as it is")
    migrate.add_argument("--force", action="store_true", help="write although it is worse")
    migrate.add_argument(
        "--dry-run", action="store_true", help="say what would be asked, and what that costs; ask and write nothing"
    )
    migrate.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for machines")
    _add_cassettes(migrate)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "print which models the prompt files ask, what they cost, and until when they live"
    models = commands.add_parser("models", help=about, description=f"{about.capitalize()}.")
    models.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="prompt files, and folders to look in (default: here)"
    )
    models.add_argument(
        "--online", action="store_true", help="ask the lists of OpenAI and Anthropic when models are shut down"
    )
    models.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for machines")
    _add_cassettes(models)


def _params(text: str) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    from pytest_promptfit.errors import PromptfitError
    from pytest_promptfit.prompts.model import Params
    from pytest_promptfit.prompts.yaml_source import YamlSource

    checked: TypeAdapter[dict[str, Any]] = TypeAdapter(Params)
    try:
        return checked.validate_python(YamlSource(Path("--params"), text).value)
    except PromptfitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValidationError as error:
        said = str(error.errors()[0].get("ctx", {}).get("error", "expected a mapping, such as {temperature: 0}"))
        raise argparse.ArgumentTypeError(f"{text!r}: {said}") from None


def _add_noise(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "print how often a model answers the same sample otherwise"
    noise = commands.add_parser(
        "noise",
        help=about,
        description=f"{about.capitalize()}, which samples those are, and the smallest drop that this leaves to be "
        "found. Recorded replies are used; --record asks for the rest.",
    )
    noise.add_argument("prompt", metavar="PROMPT", help="a prompt file")
    noise.add_argument(
        "--repeats",
        type=_positive,
        metavar="K",
        help="answers to each sample (default: the file's repeats, and 3 where it has none)",
    )
    noise.add_argument(
        "--samples", type=_positive, metavar="N", help="labeled samples to take at most, a balanced draw (default: all)"
    )
    _add_record(noise, "ask the model for the answers that are not recorded")
    noise.add_argument("--json", action="store_true", dest="as_json", help="print JSON, for machines")
    _add_cassettes(noise)


def _add_record(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--record", action="store_true", help=about)
    _add_limits(parser)
    parser.add_argument(
        "--concurrency", type=_positive, metavar="N", help="with --record: calls in flight at once (default: 16)"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget",
        type=_usd,
        metavar="USD",
        help="with --record: stop before this much is spent; what was paid for is kept",
    )
    parser.add_argument(
        "--max-calls", type=_positive, metavar="N", help="with --record: stop after N calls; what was paid for is kept"
    )
    parser.add_argument("--allow-ci", action="store_true", help="allow --record although CI is set")


def _usd(text: str) -> float:
    from pytest_promptfit.providers.usage import read_usd

    amount = read_usd(text)
    if amount is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an amount in USD, such as 0.50")
    return amount


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
