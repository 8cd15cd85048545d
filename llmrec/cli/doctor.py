"""``llmrec doctor``: hardware, the device and precision that will be used, missing packages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import typer

from llmrec.cli.exits import FAILED, ends_well
from llmrec.cli.options import AsJson, Device, Quantization
from llmrec.cli.output import fields, print_json, safe, screen, table, waiting

if TYPE_CHECKING:
    from llmrec.models.hardware import Machine

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(;.*extra == ['\"](?P<extra>[\w-]+)['\"])?")


@dataclass(frozen=True)
class Requirement:
    """A package that llmrec uses. ``extra`` is empty for one that it needs."""

    name: str
    extra: str
    version: str | None

    @property
    def command(self) -> str:
        """The pip command that installs it; empty where it is installed."""
        if self.version is not None:
            return ""
        return f"pip install 'llmrec[{self.extra}]'" if self.extra else f"pip install {self.name}"


@ends_well
def doctor(
    *, device: Device = None, quantization: Quantization = "none", as_json: AsJson = False
) -> None:
    """Show the hardware, the device and precision that will be used and why, missing packages."""
    packages = requirements()
    with waiting("Loading torch"):
        from llmrec.models import cache_folder
        from llmrec.models.hardware import choose_placement, machine
    here = machine()
    placement = choose_placement(device, None, quantization, on=here)
    missing = [package for package in packages if package.version is None]
    if as_json:
        print_json(
            {
                "machine": {**vars(here), "cpu_bfloat16": here.cpu_bfloat16},
                "devices": here.devices,
                "placement": placement,
                "packages": {package.name: package.version for package in packages},
                "missing": [
                    {"name": each.name, "extra": each.extra, "command": each.command}
                    for each in missing
                ],
                "cache": cache_folder(),
            }
        )
    else:
        console = screen()
        console.print(fields(_machine_rows(here) | {"Cache": cache_folder()}), "")
        console.print(
            fields(
                {
                    "Device": placement.device,
                    "Dtype": placement.dtype,
                    "Quantization": placement.quantization,
                    "Why": " ".join(placement.reasons),
                }
            ),
            "",
        )
        if missing:
            rows = [(each.name, each.extra or "everything", safe(each.command)) for each in missing]
            console.print(table(("Missing", "needed for", "install with"), rows))
        else:
            console.print("No package is missing.", style="green")
    if any(not package.extra for package in missing):
        raise typer.Exit(FAILED)


def requirements() -> tuple[Requirement, ...]:
    """List the packages of llmrec's metadata with their installed versions."""
    found = []
    for line in requires("llmrec") or ():
        match = _REQUIREMENT.match(line)
        if match and match["extra"] != "dev":
            found.append(Requirement(match["name"], match["extra"] or "", _version(match["name"])))
    return tuple(found)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine_rows(here: Machine) -> dict[str, object]:
    gpus = [f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB" for gpu in here.gpus]
    bfloat16 = "with" if here.cpu_bfloat16 else "without"
    return {
        "Processor": f"{here.cpu}, {here.cores} cores",
        "Instructions": f"{', '.join(here.flags) or 'none that matters'} ({bfloat16} bfloat16)",
        "Memory": f"{here.memory / 2**30:.1f} GiB",
        "GPU": "; ".join(gpus) or ("Apple GPU (mps)" if here.mps else "none visible to torch"),
        "Versions": f"Python {here.python}, torch {here.torch}",
    }
