"""What the pages of the documentation hold: commands, programs, files to write, links, headings and flags."""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from support import REPOSITORY

PAGES = [
    path
    for path in (REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if "_build" not in path.parts
]
SHELL = ("sh", "bash", "shell", "console")
PROGRAMS = (
    *("python", "python3", "pip", "make", "git", "cd", "cat", "tail", "ls", "mpirun", "srun", "sbatch", "squeue"),
    *("scancel", "module", "conda", "docker", "apptainer", "tensorboard", "mlflow", "kill", "timeout", ".", "source"),
)
# A block whose first line is a comment with nothing but a file's name is that file.
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|ya?ml|txt|sh))")


@dataclass(frozen=True)
class Block:
    """A block of code; ``kind`` is sh, python, or the name of the file that it is."""

    page: str
    line: int
    kind: str
    text: str


def name(path):
    """A page's name, from the top of the repository."""
    return str(path.relative_to(REPOSITORY))


def tokens(path):
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def is_command(line):
    """Whether a line of an indented block, which has no language, calls a program."""
    words = re.sub(r"^(\w+=(\"[^\"]*\"|\S*) )+", "", line.strip()).split()
    return bool(words) and (words[0] in PROGRAMS or words[0].startswith("qtrl-"))


def blocks(path):
    """Every block of a page that is run or written, in order."""
    found = []
    for token in tokens(path):
        language = token.info.strip() if token.type == "fence" else ""
        if token.type == "code_block" and is_command(token.content.lstrip().splitlines()[0]):
            language = "sh"
        # A fence's first line stands below its fence.
        line = token.map[0] + (2 if token.type == "fence" else 1) if token.map else 0
        text = token.content
        file = FILE_NAME.fullmatch(text.split("\n", 1)[0])
        if file and token.type == "fence":
            found.append(Block(name(path), line, file[1], text))
        elif language == "console":
            typed = [row.removeprefix("$ ") for row in text.splitlines() if row.startswith("$ ")]
            found.append(Block(name(path), line, "sh", "\n".join(typed)))
        elif language in SHELL:
            found.append(Block(name(path), line, "sh", text))
        elif language == "python":
            found.append(Block(name(path), line, "python", text))
    return found


def lines_of(block):
    """The commands of a shell block, each on one line and without its comment."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    rows = [re.sub(r"(^|\s+)#\s.*$", "", row).rstrip() for row in joined.splitlines()]
    return [row for row in rows if row.strip()]


def inline(path):
    """All text in backticks within a page's prose and tables."""
    return [child.content for token in tokens(path) for child in token.children or () if child.type == "code_inline"]


def links(path):
    """Where a page's links and pictures go."""
    children = [child for token in tokens(path) for child in token.children or ()]
    return [child.attrGet("href") or child.attrGet("src") for child in children if child.type in ("link_open", "image")]


def anchors(path):
    """The anchors of a page's headings, as code-hosting sites and MyST make them."""
    parsed = tokens(path)
    heads = [parsed[i + 1].content for i, token in enumerate(parsed) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
