"""What a run writes, by name: whoever looks for label maps leaves it out."""

from __future__ import annotations

CODE_FOLDER, PROBABILITY_FOLDER, BRIDGE_FOLDER, REVIEW_FOLDER = "codes", "probability", "bridges", "reviewed"
REPLACED_FOLDER, SIDE_FOLDER, NAME_FOLDER, AGREEMENT_FOLDER = "replaced", "sides", "names", "agreement"
RUN_FILE, FUSE_FILE, CONSENSUS_FILE, REPORT_FILE = "run.json", "fuse.json", "consensus.json", "report.html"
TREES_FILE, BRANCHES_FILE = "trees.json", "branches.csv"
#: Folders in that of a run, and files that say that a folder is one of ours.
RESULT_FOLDERS = (
    *(CODE_FOLDER, PROBABILITY_FOLDER, BRIDGE_FOLDER, REVIEW_FOLDER),
    *(REPLACED_FOLDER, SIDE_FOLDER, NAME_FOLDER, AGREEMENT_FOLDER),
)
RESULT_FILES = (RUN_FILE, FUSE_FILE, CONSENSUS_FILE, TREES_FILE)
