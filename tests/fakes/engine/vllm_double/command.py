# SPDX-License-Identifier: MulanPSL-2.0
"""The composition root: in the command line and the environment, out the exit status."""

import os
from collections.abc import Sequence

from .failures import FAILURES
from .flags import parse_arguments
from .log import Log, write_stderr
from .model import StartError, read_model
from .options import OptionError, OptionsReader
from .service import Service


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv, os.environ)
    reader = OptionsReader(arguments.model, os.environ)
    try:
        options = reader.read()
    except OptionError as error:
        write_stderr(f"vllm: error: engine double: {error}\n")
        return 2
    failure = FAILURES.get(options.fail_at_start)
    if failure and not failure.in_engine:
        write_stderr(f"{failure.text}\n")
        return failure.exit_code
    keep_alive = os.environ.get("VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "0") == "1"
    try:
        return Service(arguments, read_model(arguments), reader, keep_alive).run()
    except StartError as error:
        Log("APIServer").raw(str(error))
    except OSError as error:  # the port
        Log("APIServer").raw(f"OSError: {error}")
    return 1
