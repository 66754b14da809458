"""The catalogue of databases, and where their records live on this machine.

Every database is a folder ``<root>/<name>/<version>`` with the same files as PhysioNet's
``/files/<name>/<version>/``, so a mirror, a download and a mounted copy all look alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ecglib.errors import DataError, check_name

PHYSIONET = "https://physionet.org/files/"

GOLDBERGER = (
    "Goldberger et al., PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101(23):e215-e220, 2000, "
    "doi:10.1161/01.CIR.101.23.e215"
)


@dataclass(frozen=True)
class Database:
    """One database of the catalogue.

    Attributes
    ----------
    name, version : str
        Folder names below the data root.
    title, citation, licence : str
        As to be printed wherever a number from the database is shown.
    fs : float
        Native sampling rate in Hz.
    same_patient : mapping of str to str
        Records that share a patient: record name to patient name, with its database if that is another one ("mitdb/100");
        other records are their own patient.
    """

    name: str
    version: str
    title: str
    fs: float
    citation: str = ""
    licence: str = "ODC-By 1.0"
    same_patient: Mapping[str, str] = field(default_factory=dict)

    def patient(self, record: str) -> str:
        """Patient identifier of a record, unique across databases."""
        who = self.same_patient.get(record, record)
        return who if "/" in who else f"{self.name}/{who}"


# records of QTDB that are excerpts of another database's, by their names
_EXCERPTS = {
    "mitdb": "100 102 103 104 114 116 117 123 213 221 223 230 231 232 233",
    "ltdb": "14046 14157 14172 15814",
}

DATABASES: Mapping[str, Database] = MappingProxyType(
    {
        d.name: d
        for d in (
            Database(
                "mitdb",
                "1.0.0",
                "MIT-BIH Arrhythmia Database",
                360.0,
                citation="Moody & Mark, IEEE Eng Med Biol Mag 20(3):45-50, 2001, doi:10.1109/51.932724",
                same_patient=MappingProxyType({"202": "201"}),  # one man, says the database's directory
            ),
            Database(
                "ltafdb",
                "1.0.0",
                "Long-Term AF Database",
                128.0,
                citation="Petrutiu, Sahakian & Swiryn, Europace 9:466-470, 2007, doi:10.1093/europace/eum096",
            ),
            Database("ltdb", "1.0.0", "MIT-BIH Long-Term ECG Database", 128.0, citation="doi:10.13026/C2KS3F"),
            Database(
                "qtdb",
                "1.0.0",
                "QT Database",
                250.0,
                citation="Laguna, Mark, Goldberger & Moody, Computers in Cardiology 24:673-676, 1997",
                same_patient=MappingProxyType(
                    {f"sel{r}": f"{origin}/{r}" for origin, names in _EXCERPTS.items() for r in names.split()}
                ),
            ),
            Database(
                "phantom",
                "1.0.0",
                "Phantom: simulated ECG with planted evidence",
                360.0,
                citation="simulated by ecglib.phantom",
                licence="CC0-1.0",
            ),
        )
    }
)


def database(name: str) -> Database:
    """Look a database up by name.

    Raises
    ------
    UnknownNameError
        If it is not in `DATABASES`.
    """
    return DATABASES[check_name("database", name, DATABASES)]


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder that holds the databases: the argument, else ``$ECGLIB_DATA``, else ``./data``."""
    return Path(root or os.environ.get("ECGLIB_DATA") or "data").expanduser()


def folder(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of one database, ``<root>/<name>/<version>``; it need not exist."""
    db = database(name)
    return data_root(root) / db.name / db.version


def record_names(name: str, root: str | os.PathLike[str] | None = None) -> list[str]:
    """Records of a database that have a header on this machine, in the order of its ``RECORDS`` file.

    Raises
    ------
    DataError
        If the folder is not there or holds no record.
    """
    where = folder(name, root)
    present = {p.stem for p in where.glob("*.hea")} if where.is_dir() else set()
    if not present:
        remedy = "write it with ecglib.phantom.write" if name == "phantom" else f"get it with 'ecglib fetch {name}'"
        raise DataError(f"no records of {name!r} under {where}; {remedy} or set ECGLIB_DATA to the folder that has it")
    listing = where / "RECORDS"
    listed = listing.read_text(errors="replace").split() if listing.is_file() else []
    return [r for r in listed if r in present] + sorted(present.difference(listed))


def __getattr__(attribute: str):  # type: ignore[no-untyped-def]
    """``databases.fetch`` is public here; its HTTP machinery is imported on first use."""
    if attribute == "fetch":
        from ecglib.download import fetch

        return fetch
    raise AttributeError(f"module 'ecglib.databases' has no attribute {attribute!r}")
