"""The fixed split of MovieLens-1M that public code uses to compare models, read from its files.

Ratings sorted by time: the first 80 % train, the next 10 % validate, the last 10 % test. Vocabularies hold the values
of the training rows; others have id 0. A row's behaviours are its user's positive items of strictly earlier seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import torch

from msr_models.data.columns import Array
from msr_models.data.layout import FieldLayout
from msr_models.data.window import Window
from msr_models.experiments.split import Split, in_time, split_rows
from schemas.errors import SourceError
from schemas.field_spec import Role

ScenarioKind = Literal["age3", "age7", "genre"]

FIELDS = ("user", "item", "gender", "occupation", "zip", "first_genre", "age")
_ROLES: dict[str, Role] = {"user": "user", "item": "item"}
POSITIVE_RATING = 4
AGE_EDGES, AGE_NAMES = (25, 35), ("under_25", "from_25_to_34", "from_35")
GENRES = ("Comedy", "Action", "Drama", "Horror", "Adventure", "Crime", "Animation", "Children's")
_COLUMNS = {
    "ml-1m.inter": ("user_id", "item_id", "rating", "timestamp"),
    "ml-1m.user": ("user_id", "age", "gender", "occupation", "zip_code"),
    "ml-1m.item": ("item_id", "genre"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratings:
    """Ratings in time order: second, label, and a code per field (`age`: the age itself)."""

    second_N: Array
    positive_N: Array
    codes: dict[str, Array]
    genres: Array
    """Genre by code of first_genre."""

    def take(self, at_N: Array) -> _Ratings:
        codes = {name: column[at_N] for name, column in self.codes.items()}
        return replace(self, second_N=self.second_N[at_N], positive_N=self.positive_N[at_N], codes=codes)


def movielens_split(
    folder: Path, *, scenario: ScenarioKind = "age3", history: int = 20, rows: int | None = None, name: str
) -> Split:
    """The split by `scenario`: age3 (< 25, 25-34, 35+), age7 (the file's seven age groups) or genre (the movie's first
    genre, ratings of the 8 largest only).

    history: most behaviours per row, 0 for none. rows: sample about this many ratings evenly over time.
    Raises SourceError if a file is missing or lacks a column or a rating's user or movie.
    """
    ratings = _read(folder)
    if scenario == "genre":
        ratings = ratings.take(np.flatnonzero(np.isin(ratings.genres, GENRES)[ratings.codes["first_genre"]]))
    if rows is not None and rows < len(ratings.second_N):
        ratings = ratings.take(np.linspace(0, len(ratings.second_N) - 1, rows).astype(np.int64))
    scenario_N, names = _scenarios(ratings, scenario)
    parts = in_time(len(scenario_N))
    window = _window(ratings, scenario_N, names, len(parts[0]), history)
    return split_rows(name, window, parts)


def _read(folder: Path) -> _Ratings:
    ratings, users, movies = (_read_file(folder / file, columns) for file, columns in _COLUMNS.items())
    second_N = pc.cast(ratings["timestamp"], pa.float64()).to_numpy().astype(np.int64)
    # Ratings of the same second keep their order in the file
    order_N = np.argsort(second_N, kind="stable")
    user_N = _places(users["user_id"], ratings["user_id"], folder / "ml-1m.user")[order_N]
    movie_N = _places(movies["item_id"], ratings["item_id"], folder / "ml-1m.item")[order_N]
    genres, genre_M = np.unique(_texts(pc.list_element(pc.split_pattern(movies["genre"], " "), 0)), return_inverse=True)
    codes = {
        "user": user_N,
        "item": movie_N,
        "gender": np.unique(_texts(users["gender"]), return_inverse=True)[1][user_N],
        "occupation": np.unique(_texts(users["occupation"]), return_inverse=True)[1][user_N],
        "zip": np.unique(_texts(users["zip_code"]), return_inverse=True)[1][user_N],
        "first_genre": genre_M[movie_N],
        "age": _texts(users["age"]).astype(np.float64).astype(np.int64)[user_N],
    }
    rating_N = pc.cast(ratings["rating"], pa.float64()).to_numpy()[order_N]
    return _Ratings(second_N=second_N[order_N], positive_N=rating_N >= POSITIVE_RATING, codes=codes, genres=genres)


def _read_file(path: Path, columns: tuple[str, ...]) -> dict[str, pa.ChunkedArray]:
    """Columns of a tab-separated file as strings; its header has `name:type`."""
    fix = "fetch the files with scripts/get_movielens.py FOLDER and give path=FOLDER"
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline().rstrip("\r\n").split("\t")
        table = pcsv.read_csv(
            path,
            parse_options=pcsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error}); {fix}") from error
    named = {column.split(":")[0]: column for column in header}
    if missing := [column for column in columns if column not in named]:
        raise SourceError(f"{path} lacks columns {missing}; it has {sorted(named)}; {fix}")
    return {column: table[named[column]] for column in columns}


def _texts(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.to_numpy(), dtype=str)


def _places(known: pa.ChunkedArray, wanted: pa.ChunkedArray, path: Path) -> Array:
    """Position of each wanted key in a side file."""
    place = pc.index_in(wanted, known)
    if place.null_count:
        strange = wanted.filter(pc.is_null(place))[0].as_py()
        raise SourceError(f"{path} lacks {strange!r} of ml-1m.inter; use the three files of one download")
    return np.asarray(place.to_numpy(), dtype=np.int64)


def _scenarios(ratings: _Ratings, kind: ScenarioKind) -> tuple[Array, tuple[str, ...]]:
    if kind == "genre":
        place_of_code = np.array([GENRES.index(g) if g in GENRES else -1 for g in ratings.genres.tolist()])
        return place_of_code[ratings.codes["first_genre"]], GENRES
    ages_N = ratings.codes["age"]
    if kind == "age3":
        return np.searchsorted(AGE_EDGES, ages_N, side="right"), AGE_NAMES
    ages, scenario_N = np.unique(ages_N, return_inverse=True)
    return scenario_N, tuple(f"age_{age}" for age in ages)


def _window(ratings: _Ratings, scenario_N: Array, names: tuple[str, ...], train_rows: int, history: int) -> Window:
    encoded = [_encode(ratings.codes[name], train_rows) for name in FIELDS]
    slot_ids_NS = np.stack([ids_N for ids_N, _ in encoded], axis=1).astype(np.int32)
    user_N = ratings.codes["user"]
    place_H, start_N, end_N = _behaviours(user_N, ratings, history)
    behaviours = _with_padding(slot_ids_NS[:, FIELDS.index("item")], place_H, 0), _with_padding(scenario_N, place_H, -1)
    day_N = ratings.second_N // 86_400
    days, day_index_N = np.unique(day_N, return_inverse=True)
    return Window(
        dataset_name="movielens_fixed",
        scenario_names=names,
        days=tuple(date(1970, 1, 1) + timedelta(days=int(day)) for day in days),
        layout=FieldLayout(
            names=FIELDS,
            num_slots=(1,) * len(FIELDS),
            num_rows=tuple(size for _, size in encoded),
            item_field=FIELDS.index("item"),
            hist_length=history,
            roles=tuple(_ROLES.get(name, "feature") for name in FIELDS),
        ),
        vocabulary_version="training-rows",
        table_versions={},
        instance_id_N=torch.arange(len(scenario_N)),
        day_N=torch.from_numpy(day_index_N.astype(np.int32)),
        user_key_N=torch.from_numpy(user_N),
        scenario_N=torch.from_numpy(scenario_N.astype(np.int32)),
        label_N=torch.from_numpy(ratings.positive_N.astype(np.float32)),
        slot_ids_NS=torch.from_numpy(slot_ids_NS),
        hist_ids_HA=torch.from_numpy(behaviours[0].astype(np.int32)[:, None]),
        hist_scenario_H=torch.from_numpy(behaviours[1].astype(np.int16)),
        hist_start_N=torch.from_numpy(start_N),
        hist_end_N=torch.from_numpy(end_N),
        rank_N=torch.full((len(scenario_N),), torch.nan, dtype=torch.float64),
        shared_N=torch.zeros(len(scenario_N), dtype=torch.bool),
        fingerprint="",
    )


def _encode(value_N: Array, train_rows: int) -> tuple[Array, int]:
    """(ids: from 1 on for the sorted values of the training rows, 0 for others; size of the id space)."""
    known = np.unique(value_N[:train_rows])
    place_N = np.minimum(np.searchsorted(known, value_N), len(known) - 1)
    return np.where(known[place_N] == value_N, place_N + 1, 0), len(known) + 1


def _behaviours(user_N: Array, ratings: _Ratings, history: int) -> tuple[Array, Array, Array]:
    """(rows that are behaviours, start and end of what each row sees behind a place of padding).

    Rows are in time order; a row sees its user's last positives of earlier seconds.
    """
    rows = len(user_N)
    if history == 0:
        nothing = np.zeros(rows, dtype=np.int32)
        return np.zeros(0, dtype=np.int64), nothing, nothing
    order_N = np.argsort(user_N, kind="stable")
    user_S, second_S, positive_S = user_N[order_N], ratings.second_N[order_N], ratings.positive_N[order_N]
    before_S = 1 + np.cumsum(positive_S) - positive_S
    new_user_S = np.concatenate([[True], user_S[1:] != user_S[:-1]])
    new_second_S = new_user_S | np.concatenate([[True], second_S[1:] != second_S[:-1]])
    start_N, end_N = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    end_S = before_S[new_second_S][np.cumsum(new_second_S) - 1]
    start_S = before_S[new_user_S][np.cumsum(new_user_S) - 1]
    start_N[order_N], end_N[order_N] = np.maximum(start_S, end_S - history), end_S
    # The positives of one user after the other
    return order_N[positive_S], start_N, end_N


def _with_padding(value_N: Array, place_H: Array, padding: int) -> Array:
    """The values of behaviours, the place of padding first."""
    return np.concatenate([[padding], value_N[place_H]])
