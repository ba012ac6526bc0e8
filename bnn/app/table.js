// A click on a column's head sorts the table by that column, a second one the other way round. How it is sorted
// stands in the page alone, since new decisions make the page's table anew.
const compared = (one, other) => one.localeCompare(other, "en", { numeric: true });
const asNumbers = (one, other) => Number(one) - Number(other);

element.addEventListener("click", (event) => {
    const head = event.target.closest("thead button")?.parentElement;
    if (!head) return;
    const body = head.closest("table").tBodies[0];
    const falls = head.ariaSort === "ascending";
    const text = (row) => row.cells[head.cellIndex].textContent;
    const rows = [...body.rows];
    const order = rows.some((row) => Number.isNaN(Number(text(row)))) ? compared : asNumbers;
    rows.sort((one, other) => order(text(one), text(other)) * (falls ? -1 : 1));
    body.append(...rows);
    for (const one of head.parentElement.cells) one.ariaSort = "none";
    head.ariaSort = falls ? "descending" : "ascending";
});
