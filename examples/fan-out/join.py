#!/usr/bin/env python3
"""The answer to one request, from what its sub-tasks came to."""

import json
import os
import sys

children = json.load(sys.stdin.buffer)["children"]
failed = [child["index"] for child in children if child["state"] != "succeeded"]
with open(os.environ["PROCESSION_RESULT"], "w", encoding="utf-8") as result:
    json.dump({"sub_tasks": [child["result"] for child in children], "failed": failed}, result)
# To the byte what the recipe's route returns; and what it cannot say.
sys.stdout.write(f"Sub-tasks failed: {failed}" if failed else "Request processed successfully")
