"""The ``promptfit`` command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="promptfit",
        description="Helpers around prompt files; the tests themselves run with pytest --promptfit.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    schema = commands.add_parser("schema", help="print the JSON Schema of the prompt file, for editors")
    schema.set_defaults(run=_schema)
    chosen = parser.parse_args(arguments)
    code: int = chosen.run()
    return code


def _schema() -> int:
    sys.stdout.write(Path(__file__).with_name("prompt.schema.json").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
