"""The three formats of a batch in Ray Data; each comes back in its own format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.integrations.ray_data import EngineMapper
    from llmengine.mock import MockServer

MISSING = "it comes with Ray; run: pip install 'pytest-llmengine[ray]', or nox -s ray"

ROWS = [
    {"id": 1, "messages": [{"role": "user", "content": "Repeat this: ant"}], "how": None},
    {
        "id": None,
        "messages": [
            {"role": "system", "content": "Obey.", "name": "boss"},
            {"role": "user", "content": "Repeat this: bee"},
        ],
        "how": {"max_tokens": 9},
    },
]


def _columns() -> dict[str, list[Any]]:
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.fixture
def ask(mapper: Callable[..., EngineMapper]) -> EngineMapper:
    """A mapper for the rows above."""
    return mapper(prompt="messages", sampling_column="how")


def _check_sent(server: MockServer) -> None:
    """Messages and sampling are sent as they were written, without Arrow's nulls."""
    sent = {len(call.json["messages"]): call.json for call in server.calls}
    assert sent[1]["messages"] == ROWS[0]["messages"]
    assert sent[2]["messages"] == ROWS[1]["messages"]
    assert sent[2]["max_tokens"] == 9


def test_table_stays_a_table_with_fixed_types(server: MockServer, ask: EngineMapper) -> None:
    """Old columns are the same objects, and a column that has only nulls has its type."""
    pa = pytest.importorskip("pyarrow", reason=MISSING)
    table = pa.Table.from_pylist(ROWS)

    answered = ask(table)

    assert answered.select(table.column_names) == table
    assert answered["text"].to_pylist() == ["ant", "bee"]
    assert answered.schema.field("error").type == pa.string()
    assert answered.schema.field("total_tokens").type == pa.int64()
    assert ask(table.slice(0, 0)).schema == answered.schema
    _check_sent(server)


def test_frame_stays_a_frame(server: MockServer, ask: EngineMapper) -> None:
    """A DataFrame comes back as one, with its own index."""
    pd = pytest.importorskip("pandas", reason=MISSING)
    frame = pd.DataFrame(_columns(), index=[5, 3])

    answered = ask(frame)

    assert list(answered.index) == [5, 3]
    assert answered["text"].tolist() == ["ant", "bee"]
    _check_sent(server)


def test_arrays_are_read_as_lists(server: MockServer, ask: EngineMapper) -> None:
    """Ray's "numpy" batches contain arrays, also inside their rows."""
    np = pytest.importorskip("numpy", reason=MISSING)
    messages = np.empty(2, dtype=object)
    messages[:] = [np.array(row["messages"], dtype=object) for row in ROWS]
    how = np.array(_columns()["how"], dtype=object)

    answered = ask({"id": np.array([1, 2]), "messages": messages, "how": how})

    assert answered["text"] == ["ant", "bee"]
    _check_sent(server)


def test_numbers_of_arrays_fill_a_template(mapper: Callable[..., EngineMapper]) -> None:
    """A numpy number prints as a number."""
    np = pytest.importorskip("numpy", reason=MISSING)

    answered = mapper(template="Repeat this: {{ n }}, {{ many }}")(
        {"n": np.array([3]), "many": np.array([[1.5, 2.0]])}
    )

    assert answered["text"] == ["3, [1.5, 2.0]"]
