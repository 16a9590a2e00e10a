"""What `zygo deploy` sends is what it evaluated, also when a file is saved in that very moment."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

from zygo.program.deploying import ROUNDS, Deploy, _evaluate
from zygo.sdk.reference import AppRef

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.program.sources import Upload

PROGRAM = """
import os
import zygo

app = zygo.App("saved")
if os.path.exists({gate!r}):
    with open({gate!r}) as gate:  # until somebody opens it for writing
        gate.read()

@app.function(timeout={timeout})
def f():
    return {timeout}
"""


def evaluated(path: Path) -> Upload:
    return asyncio.run(_evaluate(Deploy(AppRef(path=str(path)), "")))


def test_a_file_that_is_saved_while_it_is_evaluated_is_evaluated_again(tmp_path: Path) -> None:
    gate, path = tmp_path / "gate", tmp_path / "saved.py"
    os.mkfifo(gate)
    path.write_text(PROGRAM.format(gate=str(gate), timeout=10))

    async def save() -> Upload:
        deploying = asyncio.create_task(_evaluate(Deploy(AppRef(path=str(path)), "")))
        writer = await asyncio.to_thread(open, gate, "w")  # returns once the first evaluation reads
        path.write_text(PROGRAM.format(gate=str(gate), timeout=20))
        gate.unlink()
        writer.close()
        return await deploying

    upload = asyncio.run(save())
    assert [function.timeout for function in upload.app.functions] == [20]
    assert [file.sha256 for file in upload.app.files] == [hashlib.sha256(path.read_bytes()).hexdigest()]
    assert upload.app.warnings == ()


def test_a_program_that_writes_one_of_its_files_at_each_evaluation_is_deployed(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    for folder in (same, other):
        folder.mkdir()
        count = "1" if folder is same else "open(__file__ + '.count').read().count('x')"
        (folder / "writing.py").write_text(
            "import os, zygo\n"
            "open(__file__ + '.count', 'a').write('x')\n"
            f"here = os.path.dirname(__file__)\nopen(here + '/made.txt', 'w').write(str({count}))\n"
            "image = zygo.Image.debian_slim().add_local_file(here + '/made.txt', '/made.txt')\n"
            "app = zygo.App('writing', image=image)\n"
            "@app.function()\n"
            "def f(): pass\n"
        )
    assert evaluated(same / "writing.py").app.warnings == ()
    assert (same / "writing.py.count").read_text() == "xx", "the same twice is enough"
    [warning] = evaluated(other / "writing.py").app.warnings
    assert f"made.txt was written during each of {ROUNDS} evaluations" in warning
    assert (other / "writing.py.count").read_text() == "x" * ROUNDS
