"use strict";
(() => {
  const form = document.getElementById("filters");
  const table = document.getElementById("matrix");
  const shown = document.getElementById("shown");
  const openAll = document.getElementById("open-all");
  const names = ["q", "group", "level", "outcome", "server", "sort"].filter((name) => form[name]);
  const worst = ["fail", "ignored", "error", "not_run", "refused", "deviates", "unmeasured", "unrecorded", "lenient", "pass"];
  const levels = [...form.level.options].map((option) => option.value);
  const sorted = table.createTBody();

  const rows = [];
  const byAnchor = new Map();
  const groups = [...table.querySelectorAll("tbody[data-group]")].map((body) => {
    const head = body.rows[0];
    const group = { name: body.dataset.group, body, head, rows: [], open: false };
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.cells[0].childNodes);
    head.cells[0].append(button);
    button.addEventListener("click", () => {
      group.open = !group.open;
      update();
    });
    group.button = button;
    for (const line of [...body.rows].slice(1)) {
      const cells = [...line.cells].slice(2);
      const row = {
        line,
        group,
        level: line.dataset.level,
        text: line.cells[0].textContent.toLowerCase(),
        anchor: line.querySelector("a").hash.slice(1),
        cells: cells.map((cell) => ({ outcome: cell.className, text: cell.textContent })),
        followers: [],
        unfolded: false,
      };
      rows.push(row);
      group.rows.push(row);
      byAnchor.set(row.anchor, row);
    }
    return group;
  });
  for (const row of rows) {
    const cause = byAnchor.get(row.line.dataset.cause);
    row.cause = cause && !cause.line.dataset.cause ? cause : null;
    if (row.cause) row.cause.followers.push(row);
  }
  for (const row of rows.filter((row) => row.followers.length)) {
    const note = row.line.querySelector(".note.leads") || row.line.cells[0].appendChild(document.createElement("span"));
    note.className = "note leads";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = row.followers.length === 1 ? "1 rule follows" : `${row.followers.length} rules follow`;
    button.addEventListener("click", () => {
      row.unfolded = !row.unfolded;
      update();
    });
    note.replaceChildren(button);
    row.button = button;
  }

  const tests = {
    "": () => true,
    "not-pass": (cell) => cell.outcome && cell.outcome !== "pass",
    "not-accepted": (cell) => cell.text.endsWith("!"),
    differs: (cell, all) => cell.outcome && all.some((other) => other.outcome && other.outcome !== cell.outcome),
  };

  function matches(row, state) {
    if (state.q && !state.q.toLowerCase().split(/\s+/).every((word) => row.text.includes(word))) return false;
    if (state.level && row.level !== state.level) return false;
    if (state.group && row.group.name !== state.group) return false;
    const cells = state.server ? [row.cells[state.server - 1]] : row.cells;
    const test = tests[state.outcome] || ((cell) => cell.outcome === state.outcome);
    return cells.some((cell) => test(cell, row.cells));
  }

  function order(list, sort) {
    const place = Number(sort);
    const key = {
      rule: (row) => row.anchor,
      level: (row) => levels.indexOf(row.level),
    }[sort] || ((row) => worst.indexOf(row.cells[place - 1].outcome) + (row.cells[place - 1].outcome ? 0 : 99));
    return sort ? [...list].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0)) : list;
  }

  // Rows that follow from another one stand below it if it is shown, and are folded at first.
  function place(list, body, visible) {
    for (const row of list) {
      if (row.cause && row.cause.matched) continue;
      body.append(row.line);
      row.line.hidden = !(row.matched && visible);
      row.line.classList.remove("under");
      for (const follower of row.matched ? row.followers : []) {
        body.append(follower.line);
        follower.line.hidden = !(follower.matched && visible && row.unfolded);
        follower.line.classList.add("under");
      }
      if (row.button) row.button.setAttribute("aria-expanded", String(row.unfolded));
    }
  }

  function update() {
    const state = Object.fromEntries(names.map((name) => [name, form[name].value]));
    const filtered = names.some((name) => name !== "sort" && state[name]);
    for (const row of rows) row.matched = matches(row, state);
    sorted.hidden = !state.sort;
    if (state.sort) place(order(rows, state.sort), sorted, true);
    for (const group of groups) {
      const open = group.open || filtered || openAll.getAttribute("aria-pressed") === "true";
      if (!state.sort) place(group.rows, group.body, open);
      group.body.hidden = Boolean(state.sort) || (filtered && ![...group.body.rows].some((line) => line !== group.head && !line.hidden));
      group.button.setAttribute("aria-expanded", String(open));
    }
    const matched = rows.filter((row) => row.matched);
    const folded = matched.filter((row) => row.cause && row.cause.matched && !row.cause.unfolded);
    shown.textContent = `${matched.length} of ${rows.length} rules`
      + (folded.length ? `; ${folded.length} of them follow from another rule and are folded below it` : "");
    for (const column of table.tHead.rows[0].cells) column.removeAttribute("aria-sort");
    const column = { rule: 0, level: 1 }[state.sort] ?? Number(state.sort) + 1;
    if (state.sort) table.tHead.rows[0].cells[column].setAttribute("aria-sort", "ascending");
    const query = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
    if (openAll.getAttribute("aria-pressed") === "true") query.set("open", "1");
    history.replaceState(null, "", `${location.pathname}${String(query) && `?${query}`}${location.hash}`);
  }

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    if (target && target.matches(".body")) {
      target.parentElement.scrollIntoView();
      target.focus({ preventScroll: true });
    }
  }

  function press(on) {
    openAll.setAttribute("aria-pressed", String(on));
  }

  const given = new URLSearchParams(location.search);
  for (const name of names) form[name].value = given.get(name) || "";
  for (const select of form.querySelectorAll("select")) if (select.selectedIndex < 0) select.value = "";
  press(given.get("open") === "1");
  openAll.addEventListener("click", () => {
    press(openAll.getAttribute("aria-pressed") !== "true");
    update();
  });
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    press(false);
    for (const group of groups) group.open = false;
    update();
  }));
  addEventListener("hashchange", reveal);
  form.hidden = false;
  update();
  reveal();
})();
