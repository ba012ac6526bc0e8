"""Tables for the terminal that stay whole in 80 columns."""

from rich.table import Column, Table
from rich.text import Text


def table(first: str, *others: str, title: str | None = None) -> Table:
    """An empty table with these heads, whose `first` column alone gives way where it is narrow: it folds.

    What stands in the `others`, heads and cells, may have line breaks and is never cut.
    """
    whole = (Column(head, no_wrap=True) for head in others)
    return Table(Column(Text(first), overflow="fold"), *whole, title=title)
