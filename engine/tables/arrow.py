"""Parquet and Arrow files, and folders that `datasets` has saved."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.files import read_json
from engine.tables.cells import with_talks
from engine.tables.source import BATCH_BYTES, BATCH_ROWS, Source, Told, Wanted
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

Turn = Callable[[Any], Any]
_LOOK_AT = 20
"""Rows that tell whether bytes are text, and texts conversations."""
_LEAST_ROWS = 100
"""That are asked of a parquet file at once, however long the longest are."""
_TALKS = frozenset({"messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected"})
"""Columns whose texts may spell lists of turns."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""What texts do not hold; of signs that are not seen they have many, within emoji above all."""


def open_parquet(path: Path, only: frozenset[str] | None = None) -> Source:
    """A parquet file, or `only` some columns of it; those of bytes are left out (pictures, sounds) unless they are text.

    Raises:
        InputError: damaged, or two columns are called alike.
    """
    import pyarrow as pa  # 0.2 s; only who reads rows pays
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            as_bytes = [f.name for f in schema if _is_binary(f.type) and "." not in f.name]
            first = next(file.iter_batches(_LOOK_AT, columns=as_bytes), None) if as_bytes else None
            names = tuple(name for name in _readable(path, schema, first) if only is None or name in only)
            talks = [name for name in names if name in _TALKS and _is_string(schema.field(name).type)]
            spelt = next(file.iter_batches(_LOOK_AT, columns=talks), None) if talks else None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged parquet file: {_sentence(error)}.") from None
    read = partial(_parquet, path, names)
    source = Source(path, "parquet", read, rows, "rows", names, picks=partial(open_parquet, path))
    return source if spelt is None else with_talks(source, spelt.to_pydict())


def _parquet(path: Path, names: tuple[str, ...], told: Told, _: Wanted) -> Iterator[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 0
    try:
        with pq.ParquetFile(path) as file:
            turns = _class_names(file.schema_arrow)
            # A point in a name would be taken for a path into a nested field.
            only = None if any("." in n for n in names) else list(names)
            groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
            longest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
            rows = min(BATCH_ROWS, max(_LEAST_ROWS, BATCH_BYTES // max(longest, 1)))
            for large in file.iter_batches(rows, columns=only, use_threads=False):
                for batch in _parts(large):
                    yield Table(path, "parquet", _columns(batch, names, turns), start)
                    start += batch.num_rows
                    told(start)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged parquet file: {_sentence(error)}.") from None


def open_arrow(path: Path, files: list[Path] | None = None) -> Source:
    """An Arrow file or stream, or several that make up one set.

    Raises:
        InputError: damaged, or two columns are called alike.
    """
    import pyarrow as pa

    files = files or [path]
    names: tuple[str, ...] = ()
    for file in files:
        try:
            with pa.memory_map(str(file)) as mapped:
                names = names or _readable(file, _opened(mapped).schema)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: damaged Arrow file: {_sentence(error)}.") from None
    return Source(path, "arrow", partial(_arrow, path, files), sum(f.stat().st_size for f in files), "bytes", names)


def _opened(file: Any) -> Any:
    import pyarrow as pa

    start = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if start == b"ARROW1" else pa.ipc.open_stream(file)


def _arrow(path: Path, files: list[Path], told: Told, _: Wanted) -> Iterator[Table]:
    import pyarrow as pa

    start = read = 0
    for file in files:
        try:
            with pa.memory_map(str(file)) as mapped:
                reader = _opened(mapped)
                names, turns = _readable(file, reader.schema), _class_names(reader.schema)
                whole = hasattr(reader, "get_batch")
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader
                for large in batches:
                    large.validate(full=True)  # else what is damaged inside ends in a crash or as text that is none
                    for batch in _parts(large):
                        yield Table(path, "arrow", _columns(batch, names, turns), start)
                        start += batch.num_rows
                    told(read + (file.stat().st_size if whole else mapped.tell()))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: damaged Arrow file: {_sentence(error)}.") from None
        read += file.stat().st_size


def _parts(large: Any) -> Iterator[Any]:
    """Pieces of a batch that are small as Python's objects too: of whole books 20,000 rows take more than most machines have."""
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES * large.num_rows // max(large.nbytes, 1)))
    return (large.slice(at, rows) for at in range(0, large.num_rows, rows))


def is_saved(folder: Path) -> bool:
    """Whether `datasets` has saved one set of rows in that folder."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def splits_of(folder: Path) -> dict[str, Path]:
    """The folders of the splits that `datasets` has saved together; empty when it has not.

    Raises:
        InputError: dataset_dict.json is damaged, or names what is not there.
    """
    listed = folder / "dataset_dict.json"
    if not listed.is_file():
        return {}
    try:
        names = read_json(listed, 1_000_000)["splits"]
        found = {str(name): folder / Path(str(name)).name for name in names}
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{listed}: does not list the splits of a data set.") from None
    missing = next((name for name, path in found.items() if not is_saved(path)), None)
    if missing is not None:
        raise InputError(f"{listed}: names the split {one_line(missing, 60)}, which is not in the folder.")
    return found


def open_saved(folder: Path) -> Source:
    """A set of rows as `datasets` saves it (`save_to_disk`).

    Raises:
        InputError: state.json is damaged, or names files that are not there.
    """
    state = folder / "state.json"
    try:
        # Names only: a path in there could lead anywhere.
        files = [folder / Path(str(entry["filename"])).name for entry in read_json(state, 10_000_000)["_data_files"]]
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{state}: does not say which files hold the rows.") from None
    missing = next((f for f in files if not f.is_file()), None)
    if missing is not None or not files:
        raise InputError(f"{folder}: the saved data set is not complete{f'; {missing.name} is missing' if missing else ''}.")
    return open_arrow(folder, files)


def saved_files(folder: Path) -> list[Path]:
    """What decides the rows of a saved set."""
    return [folder / "state.json", *sorted(folder.glob("*.arrow"))]


def _readable(path: Path, schema: Any, first: Any = None) -> tuple[str, ...]:
    """The columns that may hold texts; those of bytes do where `first`, a batch of them, shows texts."""
    twice = next((name for name, n in Counter(schema.names).items() if n > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has two columns called {one_line(twice, 60)}; rename one of them.")
    texts = {name for name in (first.schema.names if first is not None else ()) if _are_texts(first.column(name).to_pylist())}
    return tuple(field.name for field in schema if field.name in texts or not _has_bytes(field.type))


def _are_texts(values: Sequence[bytes | None]) -> bool:
    """Whether bytes are texts that were written down without saying so, as Impala and older tools write them."""
    try:
        texts = [value.decode() for value in values if value]
    except UnicodeDecodeError:
        return False
    return bool(texts) and not any(map(_CONTROL.search, texts))


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_bytes(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_struct(kind):
        return any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _has_bytes(kind.value_type)
    return _is_binary(kind) or bool(types.is_fixed_size_binary(kind))


def _columns(batch: Any, names: tuple[str, ...], turns: dict[str, Turn]) -> dict[str, list[Any]]:
    columns = {}
    for name in names:
        column = batch.column(name)
        values = [_decoded(v) for v in column.to_pylist()] if _is_binary(column.type) else column.to_pylist()
        columns[name] = [turns[name](v) for v in values] if name in turns else values
    return columns


def _decoded(value: bytes | None) -> str | None:
    """Bytes that are text as that; others are missing, for the column may be one that nobody needs."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _class_names(schema: Any) -> dict[str, Turn]:
    """For columns whose numbers stand for classes: what turns a number into its name."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _turn(feature) for name, feature in features.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {name: turn for name, turn in found.items() if turn is not None}


def _turn(feature: Any) -> Turn | None:
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"_type": "Sequence", "feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = [str(n) for n in feature.get("names") or []]
        named: dict[Any, str | None] = dict(enumerate(names)) | {-1: None}  # -1 marks rows whose class is kept secret
        return lambda value: named.get(value, value)
    if feature.get("_type") in ("List", "Sequence", "LargeList"):
        inner = _turn(feature.get("feature"))
        return None if inner is None else lambda values: [inner(v) for v in values] if isinstance(values, list) else values
    return None


def _sentence(error: Exception) -> str:
    """What pyarrow says is wrong; where memory ran out, which is one of its exceptions too, that is raised instead."""
    if isinstance(error, MemoryError):
        raise error
    return one_line(str(error).partition("\n")[0], 200).rstrip(".")
