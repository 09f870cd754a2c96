"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const ROW_HEIGHT = 30; // pixels, as in the style sheet

function el(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function show(value, digits = 4) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value);
  const text = value.toPrecision(digits);
  return text.includes("e") ? value.toExponential(2) : text;
}

// A filter is words; each is name<number, name>number, name=value, or a part of anything in the line.
function parseFilter(text) {
  return text.trim().toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const found = word.match(/^([\w./@-]+)([<>=])(.+)$/);
    if (!found) return (line) => line.text.includes(word);
    const [, name, sign, value] = found;
    const number = Number(value);
    return (line) => {
      const own = line.fields[name];
      if (own === undefined || own === null || own === "") return false;
      if (sign === "=") return String(own).toLowerCase() === value || (!Number.isNaN(number) && Number(own) === number);
      return sign === "<" ? Number(own) < number : Number(own) > number;
    };
  });
}

function compareValues(a, b) {
  const x = Number(a), y = Number(b);
  const numbers = a !== "" && b !== "" && a !== null && b !== null && !Number.isNaN(x) && !Number.isNaN(y);
  if (numbers) return x - y;
  if (a === null || a === "") return 1;
  if (b === null || b === "") return -1;
  return String(a).localeCompare(String(b));
}

// A sortable, filterable table that holds only the lines in view: 5,000 lines scroll like 10.
class Grid {
  constructor({ table, scroll, filter, count, columns, lines, render, onClick }) {
    Object.assign(this, { table, scroll, count, columns, lines, render, onClick });
    this.shown = lines;
    this.sorted = { column: -1, up: true };
    this.head = table.tHead || table.createTHead();
    this.body = table.tBodies[0] || table.createTBody();
    const row = this.head.insertRow();
    columns.forEach((column, k) => {
      const cell = el("th", { textContent: column.title, className: column.number ? "number" : "", tabIndex: 0 });
      cell.addEventListener("click", () => this.sort(k));
      cell.addEventListener("keydown", (event) => { if (event.key === "Enter") this.sort(k); });
      row.append(cell);
    });
    filter.addEventListener("input", () => this.filter(filter.value));
    scroll.addEventListener("scroll", () => this.draw());
    this.body.addEventListener("click", (event) => {
      const line = event.target.closest("tr[data-k]");
      if (line && onClick) onClick(this.shown[Number(line.dataset.k)]);
    });
    this.filter(filter.value);
  }

  filter(text) {
    const tests = parseFilter(text);
    this.shown = this.lines.filter((line) => tests.every((test) => test(line)));
    this.order();
    this.scroll.scrollTop = 0;
    this.draw(true);
    this.count.textContent = `${this.shown.length} of ${this.lines.length}`;
  }

  sort(k) {
    this.sorted = { column: k, up: this.sorted.column === k ? !this.sorted.up : !this.columns[k].number };
    [...this.head.rows[0].cells].forEach((cell, j) => {
      cell.classList.toggle("sorted", j === k);
      cell.classList.toggle("up", j === k && this.sorted.up);
    });
    this.order();
    this.draw(true);
  }

  order() {
    const { column, up } = this.sorted;
    if (column < 0) return;
    const name = this.columns[column].field, sign = up ? 1 : -1;
    this.shown = [...this.shown].sort((a, b) => sign * compareValues(a.fields[name], b.fields[name]));
  }

  draw(force = false) {
    const height = this.scroll.clientHeight || 480;
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW_HEIGHT) - 10);
    const last = Math.min(this.shown.length, first + Math.ceil(height / ROW_HEIGHT) + 20);
    if (!force && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const part = document.createDocumentFragment();
    part.append(this.spacer(first));
    for (let k = first; k < last; k++) {
      const line = el("tr", {}, ...this.render(this.shown[k]));
      line.dataset.k = k;
      line.classList.toggle("current", this.shown[k] === this.current);
      part.append(line);
    }
    part.append(this.spacer(this.shown.length - last));
    this.body.replaceChildren(part);
  }

  spacer(lines) {
    const cell = el("td", { colSpan: this.columns.length });
    cell.style.height = `${lines * ROW_HEIGHT}px`;
    return el("tr", { className: "spacer" }, cell);
  }
}

const td = (text, className = "") => el("td", { textContent: text, className });

// ---- results ---------------------------------------------------------------------------------------------------------
const lines = DATA.lines.map((line) => {
  const fields = { sample: line.sample, n: line.n, diverged: line.diverged, failed: line.failed };
  DATA.by.forEach((name, k) => { fields[name] = line.label[k]; });
  DATA.metrics.forEach((name, k) => { fields[name] = line.values[k][0]; });
  return { ...line, fields, text: [...line.label, line.sample].join(" ").toLowerCase() };
});
const LOST = ["diverged", "failed"].filter((name) => name === "diverged" || lines.some((line) => line[name]));
new Grid({
  table: $("lines"), scroll: $("lines").parentElement, filter: $("line-filter"), count: $("line-count"), lines,
  columns: [
    ...DATA.by.map((name) => ({ title: name, field: name })), { title: "sample", field: "sample" },
    { title: "n", field: "n", number: true }, ...LOST.map((name) => ({ title: name, field: name, number: true })),
    ...DATA.metrics.map((name) => ({ title: name + (DATA.arrows[name] || ""), field: name, number: true })),
  ],
  render: (line) => [
    ...line.label.map((value) => td(value)), td(line.sample), td(line.n, "number"),
    ...LOST.map((name) => td(line[name], line[name] ? "number bad" : "number")),
    ...line.values.map(([mean, error, lost, best]) => {
      const cell = el("td", { className: "number" }, best ? el("strong", { textContent: show(mean) }) : show(mean) || "–");
      if (error) cell.append(el("span", { className: "error", textContent: ` ± ${show(error, 2)}` }));
      if (lost) cell.append(el("span", { className: "error", textContent: ` (${lost})` }));
      return cell;
    }),
  ],
  onClick: (line) => { $("row-filter").value = line.filter; rowGrid.filter(line.filter); $("rows").scrollIntoView(); },
});

// ---- rows ------------------------------------------------------------------------------------------------------------
const rows = DATA.rows.map(([cell, item, sample, seed, status, error, image, truth, measurement, ...values]) => {
  const owner = DATA.cells[cell];
  const fields = { item, sample, seed, status, error, problem: owner.problem, method: owner.method, ...owner.fields };
  DATA.metrics.forEach((name, k) => { fields[name] = values[k]; });
  const text = [item, sample, seed, status, error, owner.problem, owner.method].join("\u0001").toLowerCase();
  return { cell, item, sample, seed, status, image, truth, measurement, values, fields, text };
});
const rowGrid = new Grid({
  table: $("row-table"), scroll: $("row-scroll"), filter: $("row-filter"), count: $("row-count"), lines: rows,
  columns: [
    ...["problem", "method", "item", "sample", "seed", "status"].map((name) => ({ title: name, field: name })),
    ...DATA.metrics.map((name) => ({ title: name, field: name, number: true })),
  ],
  render: (row) => [
    td(row.fields.problem), td(row.fields.method), td(row.item), td(row.sample), td(row.seed),
    el("td", { textContent: row.status, className: row.status === "ok" ? "" : "bad", title: row.fields.error }), ...row.values.map((value) => td(show(value), "number")),
  ],
  onClick: (row) => { viewer.showRow(row); openCell(row.cell); rowGrid.current = row; rowGrid.draw(true); $("compare").scrollIntoView(); },
});
