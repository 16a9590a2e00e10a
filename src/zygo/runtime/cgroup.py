"""The control groups that this server may use: version 1, version 2, or why there are none.

Where there are none the caller falls back to resource limits and a watchdog, and `zygo doctor` says what would change that.
`python -m zygo.runtime.cgroup NAME` tries it and prints the outcome as JSON: a server may be started in a group of its own,
where more is possible than in the one of whoever asks.
"""

from __future__ import annotations

import json
import sys

from zygo.runtime.cgroup1 import open_version1
from zygo.runtime.cgroup2 import open_version2
from zygo.runtime.limits import Cgroups, Limits, Refusal


def open_cgroups(name: str) -> Cgroups | Refusal:
    """Prepare the server's directories and remove what a killed server left. `name` tells servers apart.

    With version 2 this may move the process into a leaf of its own group.
    """
    first = open_version1(name)
    groups: Cgroups | Refusal = first if isinstance(first, Cgroups) else open_version2(name)
    if isinstance(groups, Refusal):
        # Where version 1 has the controllers, what version 2 lacks is beside the point.
        return first or groups
    groups.sweep()
    return groups


def main(name: str) -> None:
    """Try it with one group and leave nothing behind."""
    groups = open_cgroups(name)
    if isinstance(groups, Refusal):
        print(json.dumps({"ok": False, "detail": groups.detail, "mend": groups.mend}))
        return
    try:
        groups.create("probe", Limits(memory=2**30, cpu=1.0)).remove()
        print(json.dumps({"ok": True, "detail": groups.describe(), "controllers": groups.controllers}))
    except OSError as error:
        print(json.dumps({"ok": False, "detail": f"a control group cannot be made: {error}", "mend": ""}))
    finally:
        groups.close()


if __name__ == "__main__":
    main(sys.argv[1])
