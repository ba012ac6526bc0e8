"""The scripts in docs/scaling.md, run by a shell as they stand, but for `bnn` itself."""

import os
import re
from pathlib import Path

from programs import printed

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
NOTED = '#!/bin/sh\nprintf "%s\\n" "$@"\n'  # a line a word


def words_of(what: str, folder: Path, **variables: object) -> list[str]:
    """What the one script with the words `what` gives to `bnn`, with these variables in its environment."""
    (script,) = [
        one for one in re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if what in one
    ]
    (stub := folder / "bnn").write_text(NOTED)
    stub.chmod(0o755)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"} | {
        name: str(value) for name, value in variables.items()
    }
    return printed("bash", "-c", script, env=env).splitlines()
