"""The three files of MovieLens-1M in their exact format, a few made-up rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

AGES = [1, 18, 25, 35, 45, 50, 56]
GENRES = ["Comedy", "Action Thriller", "Drama", "Horror", "Western", "Children's Comedy"]


@dataclass(frozen=True, slots=True)
class Rating:
    """One rating with what is known of its user and movie."""

    user: str
    movie: str
    stars: int
    second: int
    age: int
    occupation: int
    zip: str
    genres: str


def write_movielens(folder: Path, rows: int = 400) -> list[Rating]:
    """Write the files; returns the ratings in the order of the file. The last users rate only late."""
    rng = np.random.default_rng(7)
    users = [
        (f"1m_{u}", AGES[u % 7], "FM"[u % 2], int(rng.integers(21)), f"{rng.integers(5):05d}") for u in range(1, 25)
    ]
    movies = [(f"Film {m} (19{m:02d})", GENRES[m % len(GENRES)]) for m in range(30)]
    seconds = 978_300_000 + rng.integers(0, 60, rows) * 9_000
    ratings = []
    for second in seconds.tolist():
        late = second > 978_300_000 + 50 * 9_000
        user = users[int(rng.integers(len(users) if late else len(users) - 3))]
        title, genres = movies[int(rng.integers(len(movies)))]
        ratings.append(Rating(user[0], title, int(rng.integers(1, 6)), second, user[1], user[3], user[4], genres))
    lines = {
        "ml-1m.inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        + [f"{r.user}\t{r.movie}\t{r.stars}\t{r.second}" for r in ratings],
        "ml-1m.user": ["user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token"]
        + ["\t".join(map(str, user)) for user in users],
        "ml-1m.item": ["item_id:token\tmovie_title:token\trelease_year:float\tgenre:token"]
        + [f"{title}\t{title[:-7]}\t{title[-5:-1]}\t{genres}" for title, genres in movies],
    }
    for name, text in lines.items():
        (folder / name).write_bytes("\r\n".join([*text, ""]).encode())
    return ratings
