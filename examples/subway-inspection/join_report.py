#!/usr/bin/env python3
"""The report of one train pass, with the functions of process.py, from findings that
inspect_image.py made: {"payload": the request, "children": [...]} on standard input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import process


def main() -> int:
    process.use_utf8_for_output()
    family = json.load(sys.stdin.buffer)
    request = process.parse_request(json.dumps(family["payload"]))
    findings = [finding_of(shot, child) for shot, child in zip(request.shots, family["children"])]
    report = process.write_outputs(request, findings)
    process.Progress(os.environ.get("PROCESSION_PROGRESS"), steps=1).step("report written")
    print(process.summary_of(request, findings, report))
    return 0


def finding_of(shot: process.Shot, child: dict[str, Any]) -> process.Finding:
    if child["state"] != "succeeded":
        # Its program crashed or took too long: of this photograph nothing is known, the others stand.
        return process.Finding(shot, process.UNREADABLE, [f"its inspection {child['state']}"])
    found = dict(child["result"], shot=shot)
    for name, kind in (("header", process.Header), ("measures", process.Measures)):
        found[name] = found[name] and kind(**found[name])
    return process.Finding(**found)


if __name__ == "__main__":
    sys.exit(main())
