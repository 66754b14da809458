"""A simulated heart: patients, the story of a record (which beat and which rhythm, when), and the signal it makes.

Waves are sums of Gaussians, the idea of McSharry et al., IEEE Trans Biomed Eng 50(3):289-294, 2003. Intervals follow
accesscardiology.mhmedical.com sectionid 277535337 (sinus), ekg.md (sinus bradycardia, PAC), rama.mahidol.ac.th (AF),
elentra.healthsci.queensu.ca (PVC, PAC), ecgstampede.com (SVT), understandingecg.org/node/259 (LBBB) and
droracle.ai/articles/551182 (RBBB); heights are ours. Positions are samples at 360 Hz, otherwise s, Hz and mV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import tukey

from ecglib import FS

LEADS = ("MLII", "V1")
BEAT = np.arange(-140, 260)  # where a beat is drawn: samples from its R peak, the largest deflection in MLII
Array = NDArray[np.float64]
Events = list[tuple[int, str]]  # sample, what

# fmt: off
#: What distinguishes patients: each draws every trait uniformly from its range.
TRAITS = {
    "RR N": (0.70, 0.90), "RR AFIB": (0.55, 0.85), "RR SVTA": (0.32, 0.43), "RR SBR": (1.15, 1.36),  # means
    "rsa": (0.01, 0.035), "swing": (0.02, 0.07), "breath": (0.20, 0.33),  # breathing: of RR, of heights (fractions), Hz
    "early PVC": (0.57, 0.67), "early PAC": (0.65, 0.74),  # coupling interval over RR
    "early SVTA": (0.62, 0.72), "early AFIB": (0.75, 0.90),  # the same for the first beat of an episode
    "burden": (0.20, 0.50),  # chance that a sinus beat is early (if none of the two before is)
    "PR": (0.13, 0.19), "P'R": (0.125, 0.155), "P": (0.08, 0.11), "QTc": (0.38, 0.44),
    "P mV": (0.10, 0.20), "P' tall": (1.5, 2.0), "P' inverted": (-1.2, -0.8),  # in MLII; P' as a multiple of P
    "size": (0.75, 1.35), "axis": (-20, 40), "V1": (0.7, 1.2),  # QRS: voltage, degrees off lead II, V1 over MLII
    "muscle": (0.008, 0.035), "hum": (0.002, 0.015), "wander": (0.02, 0.10),  # noise, mV
    "f mV": (0.05, 0.11), "f": (4.8, 7.8), "cv": (0.25, 0.32),  # AF: waves in MLII, Hz; deviation over mean of RR
}
#: Gaussians of each wave: mV in MLII, mV in V1, centre, standard deviation (in any unit: `_wave` sets the duration).
SHAPES = {
    "P": [(0.6, 0.35, -0.6, 1.0), (0.6, -0.25, 0.6, 1.0)],  # right then left atrium: one hump in MLII, two phases in V1
    "T": [(0.35, 0.35, -0.8, 1.3), (1.0, 1.0, 0.0, 1.0)],  # climbs slower than it falls
    "narrow": [(-0.1, 0, -0.26, 0.08), (0, 0.25, -0.16, 0.08), (1.2, 0, 0, 0.11), (0, -0.9, 0.08, 0.13),
               (-0.2, 0, 0.27, 0.1)],
    "wide": [(1.5, -1.2, -0.1, 0.14), (0.8, -0.7, 0.14, 0.14), (-0.35, 0.3, 0.38, 0.09)],  # its signs are the patient's
    "left": [(0.7, -0.9, -0.18, 0.12), (0.95, -1.0, 0.14, 0.13), (0.25, -0.2, 0.31, 0.09)],  # LBBB: notched, no q
    "right": [(-0.08, 0.3, -0.16, 0.06), (1.1, -0.5, 0, 0.075), (-0.45, 0.9, 0.42, 0.13)],  # RBBB: late S, in V1 R'
}
#: Of each QRS: range of durations, spread of the Gaussians' heights, ST over QT, range of T in MLII and in V1 (mV).
QRS = {
    "narrow": ((0.080, 0.100), 0.45, 0.07, (0.18, 0.40), (-0.12, 0.25)),
    "wide":   ((0.138, 0.180), 0.25, 0.00, (-0.60, -0.35), (0.35, 0.60)),  # T discordant and without pause,
    "left":   ((0.135, 0.165), 0.10, 0.00, (-0.35, -0.15), (0.25, 0.50)),  # in LBBB too
    "right":  ((0.125, 0.146), 0.20, 0.07, (0.15, 0.30), (-0.30, -0.10)),
}
#: Kinds of beats (those of a class bear its name): symbol, QRS, atrial interval, rhythm whose mean RR sets the QT.
KINDS = {
    "N":          ("N", "narrow", "PR", "N"),
    "PVC":        ("V", "wide", "", "N"),
    "PAC":        ("A", "narrow", "P'R", "N"),
    "AFIB":       ("N", "narrow", "", "AFIB"),
    "SVTA onset": ("A", "narrow", "P'R", "SVTA"),  # an early P' starts the run; then P is buried in the QRS
    "SVTA":       ("A", "narrow", "", "SVTA"),
    "SBR":        ("N", "narrow", "PR", "SBR"),
    "LBBB":       ("L", "left", "PR", "N"),
    "RBBB":       ("R", "right", "PR", "N"),
    "junctional": ("j", "narrow", "", "N"),
}
LASTS = {"N": (10, 30), "AFIB": (8, 30), "SVTA": (3, 20), "SBR": (8, 24), "LBBB": (10, 30), "RBBB": (10, 30)}
# fmt: on


@dataclass(frozen=True)
class Patient:
    """What one patient keeps for the whole record; the beats are those of `KINDS`, drawn around the R peak."""

    traits: Mapping[str, float]  # a number for each of `TRAITS`
    beats: Mapping[str, Array]  # (samples of `BEAT`, lead) mV
    waves: Mapping[str, Mapping[str, tuple[int, ...]]]  # on-, peak, offset of "P" (if any), "QRS", "T", and "R" of RBBB


@dataclass(frozen=True)
class Plan:
    """The story of a record; beats overrun both of its ends, so that the edges look natural."""

    patient: Patient
    length: int
    beats: Events  # R peak, kind
    episodes: Events  # start, rhythm or block, which lasts until the next one starts
    noise: np.random.SeedSequence  # apart from the story, so that an edited story keeps the noise


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw the traits of a patient and shape his beats."""
    traits = {name: float(rng.uniform(*limits)) for name, limits in TRAITS.items()}
    traits["mains"] = float(rng.choice([50.0, 60.0]))
    odd = traits[str(rng.choice(["P' tall", "P' inverted"]))]
    lead = traits["size"] * np.array([np.cos(np.deg2rad(traits["axis"])), traits["V1"]])
    focus = rng.choice([-1.0, 1.0], 2)  # where PVCs come from decides their sign in either lead
    qrs, t_mv, beats, marks = {}, {}, {}, {}
    for form, (seconds, spread, _, *t_range) in QRS.items():
        sign = focus if form == "wide" else np.ones(2)
        heights = sign * lead * rng.uniform(1 - spread, 1 + spread, (len(SHAPES[form]), 1))
        qrs[form] = _wave(SHAPES[form], rng.uniform(*seconds), mv=heights)
        t_mv[form] = sign * rng.uniform(*np.transpose(t_range))
    for kind, (_, form, interval, rhythm) in KINDS.items():
        onset, _, offset = _marks(qrs[form])
        waves = {"QRS": qrs[form]}
        if interval:
            p_mv = traits["P mV"] * (odd if interval == "P'R" else 1)
            waves["P"] = _wave(SHAPES["P"], min(traits["P"], traits["PR"] - 0.03), onset - traits[interval], mv=p_mv)
        qt = traits["QTc"] * np.sqrt(traits[f"RR {rhythm}"])  # Bazett
        start = offset + QRS[form][2] * qt
        end = onset + qt + max(offset - onset - 0.1, 0)  # a slow QRS delays the T wave
        waves["T"] = _wave(SHAPES["T"], end - start, start, mv=t_mv[form])
        beats[kind] = _mv(np.concatenate(list(waves.values())), BEAT / FS)
        waves["R"] = qrs[form][-2:-1]
        marks[kind] = {name: tuple(round(t * FS) for t in _marks(wave)) for name, wave in waves.items()}
    return Patient(traits, beats, marks)


def _wave(shape: Sequence[ArrayLike], seconds: float, start: float | None = None, *, mv: ArrayLike = 1.0) -> Array:
    """Gaussians of a wave that lasts ``seconds`` from ``start`` on, or has its peak at 0."""
    wave = np.array(shape, float)
    wave[:, :2] *= mv
    wave[:, 2:] *= seconds / np.ptp(_marks(wave))
    onset, peak, _ = _marks(wave)
    wave[:, 2] -= peak if start is None else onset - start
    return wave


def _mv(wave: Array, seconds: Array) -> Array:
    return np.exp(-0.5 * ((seconds[:, None] - wave[:, 2]) / wave[:, 3]) ** 2) @ wave[:, :2]


def _marks(wave: Array) -> tuple[float, float, float]:
    """Onset, peak in MLII and offset: 2.5 standard deviations from a centre 4 % of the height is left."""
    grid = np.linspace((wave[:, 2] - 2.5 * wave[:, 3]).min(), (wave[:, 2] + 2.5 * wave[:, 3]).max(), 2001)
    return grid[0], grid[np.abs(_mv(wave, grid)[:, 0]).argmax()], grid[-1]


def tell(who: Patient, conduction: str, roles: Sequence[str], length: int, seed: np.random.SeedSequence) -> Plan:
    """Invent a story: sinus beats have their ``conduction`` (N, LBBB, RBBB), the classes in ``roles`` come and go."""
    story, noise = seed.spawn(2)
    rng = np.random.default_rng(story)
    early = {"N": cycle(rng.permutation([r for r in roles if r in ("PVC", "PAC")]).tolist())}  # each in its turn
    early["LBBB"] = early["RBBB"] = cycle({"PVC"}.intersection(roles))
    beats, episodes = Events(), Events()
    now = -rng.uniform(1, 2)
    for label, seconds in _blocks(conduction, [r for r in roles if r in LASTS], length / FS, rng):
        rr, kinds = _block(who, label, now, seconds, early.get(label, iter(())), rng)
        at = np.rint((now + np.cumsum(rr)) * FS).astype(int).tolist()
        beats += zip(at, kinds, strict=True)
        # As in MITDB the mark stands before the first beat of the rhythm, here before its P wave
        episodes.append((round(at[0] - rng.uniform(0.26, 0.34) * FS), label))
        now = at[-1] / FS
        if label == conduction and now > length / FS + 2:
            break  # never in an episode: what replaces one needs a beat on either side
    return Plan(who, length, beats, episodes, noise)


def spans(plan: Plan) -> list[tuple[int, int, str]]:
    """Start, stop and rhythm of the episodes within the record; those of one rhythm are joined."""
    marks = [(0, ""), *((at, "N" if kind.endswith("BBB") else kind) for at, kind in plan.episodes), (plan.length, "")]
    changes = pairwise(b for a, b in pairwise(marks) if a[1] != b[1])
    return [(max(a, 0), min(b, plan.length), rhythm) for (a, rhythm), (b, _) in changes if b > 0 and a < plan.length]


def pace(who: Patient, rhythm: str, start: float, n: int) -> Array:
    """``n`` RR intervals of sinus rhythm from ``start`` (s) on: they breathe, and drift a little."""
    mean = who.traits[f"RR {rhythm}"]
    turns = 2 * np.pi * (start + mean * np.arange(n))
    return mean * (1 + who.traits["rsa"] * np.sin(who.traits["breath"] * turns) + 0.02 * np.sin(0.015 * turns))


def _blocks(sinus: str, passing: list[str], seconds: float, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Sinus rhythm and passing episodes by turns, without end: label and duration."""
    longest = seconds / (2.6 * len(passing) + 1)  # so that each has its turn in a short record, too
    while True:
        for label in rng.permutation(passing).tolist() or [sinus]:
            for which in (sinus, label):
                yield which, min(rng.uniform(*LASTS[which]), longest)


def _block(
    who: Patient, label: str, start: float, seconds: float, early: Iterator[str], rng: np.random.Generator
) -> tuple[Array, list[str]]:
    """RR intervals and kinds of at least four beats; the first interval leads to the first beat."""
    rhythm = "N" if label.endswith("BBB") else label
    mean = who.traits[f"RR {rhythm}"]
    n = max(4, round(seconds / mean))
    kinds = ["SVTA onset" if label == "SVTA" else label] + [label] * (n - 1)
    if label == "AFIB":  # nothing below 0.36 s, for the AV node has to recover, and a long tail above
        shape = ((mean - 0.36) / (who.traits["cv"] * mean)) ** 2
        rr = 0.36 + rng.gamma(shape, (mean - 0.36) / shape, n)
    else:
        rr = (np.full(n, mean) if label == "SVTA" else pace(who, rhythm, start, n)) * rng.uniform(0.985, 1.015, n)
    if label in ("AFIB", "SVTA"):
        rr[0] = who.traits[f"early {label}"] * who.traits["RR N"]
    k = int(rng.integers(2, 6)) if rhythm == "N" else n
    while k < n - 2 and (kind := next(early, "")):  # the ends of a block stay as they are
        coupling = who.traits[f"early {kind}"] + rng.uniform(-0.02, 0.02)
        both = 2.0 if kind == "PVC" else rng.uniform(1.85, 1.95)  # a PAC resets the sinus node, a PVC does not
        rr[k], rr[k + 1], kinds[k] = coupling * rr[k], (both - coupling) * rr[k], kind
        k += 2 + int(rng.geometric(who.traits["burden"]))
    return rr, kinds


def signal(plan: Plan) -> Array:
    """Signal of a story: (samples, lead) in mV."""
    traits = plan.patient.traits
    rng = np.random.default_rng(plan.noise)
    seconds = np.arange(plan.length) / FS
    x = np.stack([_noise(traits, seconds, rng) for _ in LEADS], axis=1)
    f_waves = _fibrillation(traits, seconds, rng)
    for start, stop in ((a, b) for a, b, rhythm in spans(plan) if rhythm == "AFIB"):
        fade = tukey(stop - start, min(0.1 * FS / (stop - start), 1))  # 0.05 s at either end
        x[start:stop] += fade[:, None] * f_waves[start:stop]
    for at, kind in plan.beats:
        swing = 1 + traits["swing"] * np.sin(2 * np.pi * traits["breath"] * at / FS)
        inside = (at + BEAT >= 0) & (at + BEAT < plan.length)
        x[at + BEAT[inside]] += swing * plan.patient.beats[kind][inside]
    return x


def _noise(traits: Mapping[str, float], seconds: Array, rng: np.random.Generator) -> Array:
    """Baseline wander, mains hum, and muscle noise that comes and goes, of one lead in mV."""
    white = rng.standard_normal(len(seconds))
    muscle = (white - gaussian_filter1d(white, 3)) * np.exp(0.4 * _drift(seconds, 5, rng))
    breath, hum = (np.sin(2 * np.pi * traits[rate] * seconds + rng.uniform(0, 6)) for rate in ("breath", "mains"))
    wander = 0.6 * _drift(seconds, 2.5, rng) + 0.5 * breath
    return traits["muscle"] * muscle + traits["hum"] * hum + traits["wander"] * wander


def _fibrillation(traits: Mapping[str, float], seconds: Array, rng: np.random.Generator) -> Array:
    """Sawtooth-like waves of 4 to 9 Hz whose rate and height vary slowly, larger in V1: (samples, lead) in mV."""
    phase = 2 * np.pi * np.cumsum(np.clip(traits["f"] * (1 + 0.08 * _drift(seconds, 1.5, rng)), 4, 9)) / FS
    height = traits["f mV"] * np.clip(1 + 0.3 * _drift(seconds, 1.0, rng), 0.5, 1.5)
    wave = height * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.7))
    return np.stack([wave, 1.6 * np.roll(wave, 8)], axis=1)


def _drift(seconds: Array, every: float, rng: np.random.Generator) -> Array:
    """Smooth random curve of about unit variance that forgets its value after ``every`` s."""
    knots = np.arange(-every, seconds[-1] + 2 * every, every)
    return CubicSpline(knots, rng.standard_normal(len(knots)))(seconds)
