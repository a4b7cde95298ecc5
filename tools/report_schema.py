"""Write the schemas of JSON reports, and the tables of docs/report-schema.md, from their fields.

python tools/report_schema.py            # write all
python tools/report_schema.py --check    # exit with 1 if one of them is not fresh
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.bench.schema import bench_schema
from pytest_llmengine.drift.schema import drift_schema
from pytest_llmengine.reports.schema import (
    JSONCheck,
    JSONExchange,
    JSONPart,
    JSONProvenance,
    JSONSummary,
    report_schema,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = DOCS / "report.schema.json"
DRIFT_SCHEMA = DOCS / "drift.schema.json"
BENCH_SCHEMA = DOCS / "bench.schema.json"
PAGE = DOCS / "report-schema.md"
# The beginning of the heading above each table.
TABLES: dict[str, type[JSONPart]] = {
    "## `provenance`": JSONProvenance,
    "## `summary`": JSONSummary,
    "## `checks`": JSONCheck,
    "## `exchanges`": JSONExchange,
}


def schema_text() -> str:
    """The text of the contract report's schema."""
    return json.dumps(report_schema(), indent=2) + "\n"


def drift_schema_text() -> str:
    """The text of the drift reports' schema."""
    return json.dumps(drift_schema(), indent=2) + "\n"


def bench_schema_text() -> str:
    """The text of the schema of the report of ``llmengine bench``."""
    return json.dumps(bench_schema(), indent=2) + "\n"


def page_text() -> str:
    """The text of the page: today's text, with new tables."""
    text = PAGE.read_text("utf-8")
    for heading, part in TABLES.items():
        pattern = rf"(^{re.escape(heading)}[^\n]*\n\n)(?:\|[^\n]*\n)*"
        table = "".join(_table(part))
        text, count = re.subn(pattern, lambda m, new=table: m[1] + new, text, flags=re.MULTILINE)
        assert count == 1, f"{PAGE}: there is no heading {heading}"
    return text


def _table(part: type[JSONPart]) -> Iterator[str]:
    yield "| field | type | meaning |\n|---|---|---|\n"
    schema = report_schema()
    properties = schema["$defs"][part.__name__]["properties"]
    for name, field in properties.items():
        yield f"| `{name}` | {_type(field)} | {field['description']} |\n"


def _type(field: dict[str, object]) -> str:
    """The type of a field in words; enumerations are strings."""
    if "anyOf" in field:
        options = field["anyOf"]
        assert isinstance(options, list)
        return " or ".join(map(_type, options))
    return str(field.get("type", "string"))


def main() -> int:
    """Write the files, or check them."""
    texts = {
        SCHEMA: schema_text(),
        DRIFT_SCHEMA: drift_schema_text(),
        BENCH_SCHEMA: bench_schema_text(),
        PAGE: page_text(),
    }
    if "--check" in sys.argv:
        return 0 if all(path.read_text("utf-8") == text for path, text in texts.items()) else 1
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
