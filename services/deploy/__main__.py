"""The process of a detached cluster: ``python -m services.deploy``, its options as JSON on standard input."""

from __future__ import annotations

import json
import logging
import sys

from graph.errors import AnyplexError
from services.deploy.launch import UpOptions, run_cluster
from services.runtime.telemetry import set_up_logging


def main() -> int:
    """Run the cluster; returns the exit code."""
    content = json.load(sys.stdin)
    content["systems"] = tuple(content["systems"])
    set_up_logging()
    logger = logging.getLogger("anyplex.cluster")
    try:
        run_cluster(UpOptions(**content), lambda line: logger.info("%s", line))
    except AnyplexError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
