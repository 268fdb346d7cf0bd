"""Execute a notebook under the interpreter that runs this, and write it back with its outputs.

A program of its own: what the notebook's tools warn of, and which folders they look into, is not
what the tests are about. Arguments: the notebook, and an empty folder for all that Jupyter keeps.
"""

import json
import os
import sys
from pathlib import Path

KERNEL = "this-interpreter"


def run(notebook: Path, home: Path) -> None:
    spec = home / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(
        json.dumps({"argv": command, "display_name": KERNEL, "language": "python"}),
        encoding="utf-8",
    )
    os.environ["JUPYTER_PATH"] = str(home)
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        os.environ[name] = str(home / name.lower())

    import nbformat
    from nbclient import NotebookClient

    document = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        document,
        kernel_name=KERNEL,
        timeout=600,
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    client.execute()
    nbformat.write(document, notebook)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
