"""What is installed: versions of packages, and what tells this program's code from any other. Nothing is imported for it."""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path


def version(package: str) -> str | None:
    """Of a package; `None` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def own_code() -> str:
    """A fingerprint of the code that finds facts and counts steps: newer code never serves what older code found."""
    root = Path(__file__).parents[1]
    whole = hashlib.sha256()
    for file in sorted(file for folder in ("engine", "recommender") for file in (root / folder).rglob("*.py")):
        whole.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()
