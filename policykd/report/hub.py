"""Upload of a card's folder to the Hugging Face Hub, by the hub's own client.

It knows nothing of what is in the folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from policykd.errors import ConfigError, MissingDependencyError, OutputError


def check_repository(repository: str) -> None:
    """Raise unless a name can be that of a repository and the client is installed.

    Args:
        repository: ``owner/name``.

    Raises:
        ConfigError: for another form.
        MissingDependencyError: without the extra ``hub``.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ConfigError(f"--push is {repository}; write it as <owner>/<name>, for example me/quadruped")
    _client()


def push_folder(folder: Path, repository: str) -> str:
    """Upload a folder as a model; a repository that does not exist is created.

    Args:
        folder: the folder.
        repository: ``owner/name``.

    Returns:
        The address that the client returns.

    Raises:
        MissingDependencyError: without the extra ``hub``.
        OutputError: if the hub refuses it or cannot be reached.
    """
    client = _client()
    try:
        client.HfApi().create_repo(repository, exist_ok=True)
        return str(client.HfApi().upload_folder(repo_id=repository, folder_path=str(folder)))
    except (OSError, ValueError, RuntimeError) as error:  # the client's errors are of these kinds
        raise OutputError(f"cannot upload {folder} to {repository}: {error}; log in with `hf auth login`") from None


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingDependencyError("--push needs the extra: pip install 'policykd[hub]'") from None
    return huggingface_hub
