"""The committed numbers of the chapters on the dataset: what the annotations say, and what the cues are worth.

    python benchmarks/reference_survey.py        # writes results/annotations.json; half a minute

Needs the annotations of MITDB, LTAFDB and LTDB, the signals of MITDB, and the excerpts of the other two.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from pathlib import Path

from ecglib import __version__, cues, survey
from ecglib.databases import folder, record_names
from ecglib.windows import TABLE


def checksum(name: str) -> str:
    """SHA-256 over the annotation files of a database."""
    digest = hashlib.sha256()
    for record in sorted(record_names(name)):
        digest.update(record.encode() + (folder(name) / f"{record}.atr").read_bytes())
    return digest.hexdigest()


def main() -> None:
    began = time.perf_counter()
    found = {name: survey.survey(name, progress=True) for name in TABLE}
    counted = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    out = {
        "what": "windows of the published table, counted from annotations; cues in them, each measured by a probe",
        "code_version": __version__,
        "annotations_sha256": {name: checksum(name) for name in TABLE},
        "duration_s": {"survey": round(counted, 1)},
        "peak_gb": {"survey": round(peak, 2)},
        "survey": found,
        "cues": cues.measure(),
    }
    out["duration_s"]["cues"] = round(time.perf_counter() - began - counted, 1)
    path = Path(__file__).parent.parent / "results" / "annotations.json"
    path.write_text(json.dumps(out) + "\n")
    print(survey.table_of(found).to_string())
    print({k: v for k, v in out["cues"].items() if k not in {"spectra", "signals"}})
    print(f"{sum(f['marks'] for f in found.values()):,} marks, {out['duration_s']}, {peak:.2f} GB")


if __name__ == "__main__":
    main()
