"""The steps of an Image that a later release brings: known, and refused with what to use instead."""

from __future__ import annotations

from typing import Any, Callable, NoReturn

from zygo.sdk.unsupported import refusal

_LATER = "Images on a root file system of their own come later."
REFUSED = {
    "apt_install": f"{_LATER} Many packages have wheels with their libraries: use pip_install(...). "
    "Programs that this machine has under /usr are visible in containers.",
    "run_commands": f"{_LATER} Use pip_install(...), env(...) and add_local_file(..., copy=True).",
    "dockerfile_commands": f"{_LATER} Use pip_install(...), env(...) and add_local_file(..., copy=True).",
    "run_function": "Do it at the module's top level, which runs once per revision, or before the command and add the "
    "result with add_local_dir(..., copy=True).",
    "from_registry": f"{_LATER} Use zygo.Image.debian_slim(python_version=...).pip_install(...).",
    "from_dockerfile": f"{_LATER} Use zygo.Image.debian_slim(python_version=...).pip_install(...).",
    "from_scratch": f"{_LATER} Use zygo.Image.debian_slim().",
    "from_aws_ecr": f"{_LATER} Use zygo.Image.debian_slim(python_version=...).pip_install(...).",
    "from_gcp_artifact_registry": f"{_LATER} Use zygo.Image.debian_slim(python_version=...).pip_install(...).",
    "from_id": "Write the image's steps; what is built already is not built again.",
    "from_name": "Write the image's steps; what is built already is not built again.",
    "publish": "Images with the same steps are shared between apps by themselves.",
    "build": "An image is built when its app is served.",
    "micromamba": f"{_LATER} Use zygo.Image.debian_slim().pip_install(...).",
    "micromamba_install": f"{_LATER} Use pip_install(...).",
    "conda": f"{_LATER} Use zygo.Image.debian_slim().pip_install(...).",
    "conda_install": f"{_LATER} Use pip_install(...).",
    "uv_sync": "Export the lock file (`uv export --no-emit-project -o requirements.txt`) and use "
    "pip_install_from_requirements('requirements.txt').",
    "pip_install_from_pyproject": "Compile it (`uv pip compile pyproject.toml -o requirements.txt`) and use "
    "pip_install_from_requirements('requirements.txt').",
    "poetry_install_from_file": "Export it (`poetry export -o requirements.txt`) and use "
    "pip_install_from_requirements('requirements.txt').",
    "poetry_install_from_lockfile": "Export it (`poetry export -o requirements.txt`) and use "
    "pip_install_from_requirements('requirements.txt').",
    "pip_install_private_repos": "Build a wheel of the repository and put it on an index: "
    "pip_install(..., index_url=...).",
    "entrypoint": f"{_LATER} Containers start your module directly.",
    "shell": f"{_LATER} No step runs in a shell.",
    "cmd": f"{_LATER} Containers start your module directly.",
    "copy_mount": "Use add_local_dir(..., copy=True).",
    "copy_local_file": "Use add_local_file(..., copy=True).",
    "copy_local_dir": "Use add_local_dir(..., copy=True).",
    "extend": "Use the named steps such as pip_install(...).",
}
"""Name of the step -> why it is not there yet and what to use instead."""


class Later:
    """A step that a later release brings, as an attribute of the class and of its instances."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Callable[..., NoReturn]:
        what = f"{'image' if instance is not None else 'Image'}.{self._name}()"

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise refusal(what, REFUSED[self._name])

        return refuse
