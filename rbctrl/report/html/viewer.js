// ---- image comparison ------------------------------------------------------------------------------------------------
class Viewer {
  constructor() {
    this.scenes = new Map(); // problem -> item -> seed -> sample -> method -> row
    for (const row of rows) {
      const keys = [row.fields.problem, row.item, row.seed, row.sample];
      let level = this.scenes;
      for (const key of keys) {
        if (!level.has(key)) level.set(key, new Map());
        level = level.get(key);
      }
      level.set(row.fields.method, row);
    }
    this.selects = ["problem", "item", "seed", "sample"].map($);
    this.selects.forEach((select, k) => select.addEventListener("change", () => this.fill(k + 1)));
    for (const side of ["left", "right"]) $(side).addEventListener("change", () => this.draw());
    $("slider").addEventListener("input", () => this.divide());
    $("previous").addEventListener("click", () => this.step(-1));
    $("next").addEventListener("click", () => this.step(1));
    for (const side of ["left", "right"]) {
      $(`image-${side}`).addEventListener("error", () => { $(`image-${side}`).style.visibility = "hidden"; });
      $(`image-${side}`).addEventListener("load", () => this.resize());
    }
    this.fill(0);
    this.divide();
  }

  level(depth) {
    let level = this.scenes;
    for (const select of this.selects.slice(0, depth)) level = level.get(select.value);
    return level;
  }

  // Fills the selects from `depth` on; what was chosen stays where it can.
  fill(depth) {
    for (let k = depth; k < this.selects.length; k++) setOptions(this.selects[k], [...this.level(k).keys()]);
    const methods = [...this.level(4).keys()];
    setOptions($("left"), ["measurement", "truth", ...methods], "measurement");
    setOptions($("right"), ["measurement", "truth", ...methods], methods[0] || "truth");
    this.draw();
  }

  step(by) {
    const select = $("item"), n = select.options.length;
    select.selectedIndex = (select.selectedIndex + by + n) % n;
    this.fill(2);
  }

  showRow(row) {
    [row.fields.problem, row.item, row.seed, row.sample].forEach((value, k) => {
      setOptions(this.selects[k], [...this.level(k).keys()]);
      this.selects[k].value = value;
    });
    this.fill(4);
    $("right").value = row.fields.method;
    this.draw();
  }

  draw() {
    const methods = this.level(4);
    for (const side of ["left", "right"]) {
      const name = $(side).value, row = methods.get(name), image = $(`image-${side}`);
      const path = row ? row.image : [...methods.values()].map((other) => other[name]).find((index) => index >= 0);
      const missing = path === undefined || path < 0;
      image.style.visibility = missing ? "hidden" : "visible";
      if (missing) image.removeAttribute("src"); else image.src = DATA.paths[path];
      this.caption($(`caption-${side}`), side, name, row, missing);
    }
  }

  caption(box, side, name, row, missing) {
    box.replaceChildren(el("strong", { textContent: `${side}: ${name}` }));
    if (missing) box.append(el("div", { className: "hint", textContent: "no picture was saved" }));
    if (!row) return;
    if (row.status !== "ok") box.append(el("div", { className: "hint", textContent: row.fields.error || row.status }));
    const list = el("dl");
    DATA.metrics.forEach((metric, k) => {
      if (row.values[k] !== null) list.append(el("dt", { textContent: metric }), el("dd", { textContent: show(row.values[k]) }));
    });
    box.append(list);
  }

  // The frame takes the shape of the larger picture, enlarged by a whole factor where that fits.
  resize() {
    const sizes = ["left", "right"].map((side) => $(`image-${side}`)).filter((image) => image.naturalWidth);
    const largest = sizes.reduce((a, b) => (b.naturalWidth > a.naturalWidth ? b : a));
    const width = Math.max(1, Math.floor(512 / largest.naturalWidth)) * largest.naturalWidth;
    $("viewer").style.width = `${Math.min(width, 768)}px`;
    $("viewer").style.aspectRatio = `${largest.naturalWidth} / ${largest.naturalHeight}`;
  }

  divide() {
    const share = $("slider").value;
    $("image-right").style.clipPath = `inset(0 0 0 ${share}%)`;
    $("divider").style.left = `${share}%`;
  }
}

function setOptions(select, names, preferred) {
  const before = select.value;
  if (select.options.length !== names.length || names.some((name, k) => select.options[k].value !== name)) {
    select.replaceChildren(...names.map((name) => el("option", { value: name, textContent: name })));
  }
  select.value = names.includes(before) ? before : preferred && names.includes(preferred) ? preferred : names[0];
}

const viewer = new Viewer();

// ---- command and config of every cell --------------------------------------------------------------------------------
const cellText = DATA.cells.map((cell) => `${cell.problem} ${cell.method} ${cell.command}`.toLowerCase());

function cellDetails(k) {
  const cell = DATA.cells[k];
  const box = el("details", { id: `cell-${k}` }, el("summary", { textContent: `${cell.problem} · ${cell.method}` }));
  box.addEventListener("toggle", () => {
    if (!box.open || box.childElementCount > 1) return;
    box.append(
      el("pre", { className: "command", textContent: cell.command }),
      el("div", { className: "hint", textContent: cell.folder }),
      el("pre", { textContent: DATA.configs[cell.config] }),
    );
  });
  return box;
}

function listCells(text) {
  const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const found = DATA.cells.map((_, k) => k).filter((k) => words.every((word) => cellText[k].includes(word)));
  $("cell-list").replaceChildren(...found.slice(0, 100).map(cellDetails));
  $("cell-count").textContent = `${found.length} of ${DATA.cells.length}` + (found.length > 100 ? ", the first 100 listed" : "");
}

function openCell(k) {
  if (!$(`cell-${k}`)) $("cell-list").prepend(cellDetails(k));
  $(`cell-${k}`).open = true;
}

$("cell-filter").addEventListener("input", () => listCells($("cell-filter").value));
listCells("");
document.documentElement.dataset.ready = "true";
