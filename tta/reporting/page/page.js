"use strict";
// Tables sort on a click on a heading; a second click turns the order round.
function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text);
  return text !== "" && Number.isFinite(number) ? number : text;
}
function before(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what is no number comes last
  return typeof a === "number" ? a - b : a.localeCompare(b);
}
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (falling ? -1 : 1) * before(value(a, column), value(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}
// On paper nothing can be opened later.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
// A cell of the heat map shows its example while the mouse or the keyboard is on it.
const peek = document.getElementById("peek");
for (const cell of document.querySelectorAll("td[data-example]")) {
  const shown = document.getElementById(cell.dataset.example);
  const show = () => {
    peek.replaceChildren(...[...shown.childNodes].map((node) => node.cloneNode(true)));
    const box = cell.getBoundingClientRect();
    peek.hidden = false;
    peek.style.left = `${Math.max(4, Math.min(box.right + 8, innerWidth - 160))}px`;
    peek.style.top = `${Math.max(4, Math.min(box.top - 20, innerHeight - peek.offsetHeight - 8))}px`;
  };
  const hide = () => { peek.hidden = true; };
  cell.tabIndex = 0;
  cell.addEventListener("mouseenter", show);
  cell.addEventListener("focus", show);
  cell.addEventListener("mouseleave", hide);
  cell.addEventListener("blur", hide);
}
