#!/usr/bin/env python3
"""One photograph, with the functions of process.py: an element of imageUrls on standard input, the
finding as JSON into PROCESSION_RESULT (else on standard output).

Exit codes are those of process.py: whatever is wrong with the photograph is a finding and exits 0.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import process


def main() -> int:
    process.use_utf8_for_output()
    try:
        shot = process.parse_shot(json.load(sys.stdin.buffer), 0)
    except (ValueError, process.UnusableRequest) as error:
        print(f"inspect_image.py: {error}", file=sys.stderr)
        return 2
    finding = process.inspect(shot)
    text = json.dumps(dataclasses.asdict(finding), ensure_ascii=False)
    result = os.environ.get("PROCESSION_RESULT")
    if result:
        process.write_text(Path(result), text)
    else:
        print(text)
    print(f"{finding.shot.location}: {finding.verdict}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
