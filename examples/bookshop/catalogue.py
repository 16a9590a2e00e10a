import json
from pathlib import Path

# Files of a package that are not Python are shipped with it.
BOOKS = json.loads((Path(__file__).parent / "books.json").read_text())


def by_author(name: str) -> list[str]:
    return [book["title"] for book in BOOKS if book["author"] == name]
