#!/usr/bin/env python3
"""One sub-task: the recipe's process_sub_task, with 100 ms of work where it says `pass`."""

import json
import os
import time


def process_sub_task():
    # 这里是每个子线程任务需要执行的逻辑
    time.sleep(0.1)


index = int(os.environ.get("PROCESSION_INDEX", "0"))
process_sub_task()
# What it hands back; the recipe's threads hand back nothing.
with open(os.environ["PROCESSION_RESULT"], "w", encoding="utf-8") as result:
    json.dump({"sub_task": index, "pid": os.getpid()}, result)
