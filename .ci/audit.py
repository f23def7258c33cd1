"""Whether a pinned version is known to be weak: pip-audit over requirements.lock.

    python .ci/audit.py [REQUIREMENTS]

Ends with 1 only if there is a finding. Where pip-audit is not installed, or the database cannot be reached or does not know
the packages, it says so and ends with 0: no network is no finding, and no silence either.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """The lines to print, and the exit status, for pip-audit's JSON."""
    packages = report["dependencies"]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    lines = []
    for each in packages:
        for weakness in each.get("vulns", ()):
            fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
            lines.append(f"{each['name']} {each['version']}: {weakness['id']}, fixed in {fixed}")
    findings = len(lines)
    if unknown:
        lines.append(f"not audited, since the database does not know them: {len(unknown)} of {len(packages)} packages")
    lines.append(f"{findings} findings in {len(packages) - len(unknown)} packages")
    return lines, int(findings > 0)


def audit(requirements: Path) -> tuple[list[str], int]:
    """Ask pip-audit."""
    if importlib.util.find_spec("pip_audit") is None:
        return ["not audited: pip-audit is not installed (pip install pip-audit)"], 0
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-f", "json", "-r", str(requirements)], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [f"not audited: {reason}"], 0
    return verdict(report)


def main() -> None:
    """Print, and end."""
    lines, status = audit(Path(sys.argv[1]) if len(sys.argv) > 1 else LOCK)
    print("\n".join(lines))
    sys.exit(status)


if __name__ == "__main__":
    main()
