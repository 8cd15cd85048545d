"use strict";
(() => {
  const MINUS = "\u2212";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tooltips: what a <title> says without a script is said beside the pointer, also on a touch.
  const tip = document.getElementById("tip");
  const adopt = (root) => {
    for (const title of all("svg title", root)) {
      const owner = title.parentElement;
      owner.dataset.tip = title.textContent;
      if (owner.hasAttribute("tabindex")) {
        owner.setAttribute("role", "img");
        owner.setAttribute("aria-label", title.textContent);
      }
      title.remove();
    }
  };
  const show = (event) => {
    const owner = event.target.closest?.("[data-tip]");
    tip.hidden = !owner;
    if (!owner) return;
    tip.textContent = owner.dataset.tip;
    const box = owner.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.top = `${above > 0 ? above : box.bottom + 8}px`;
  };
  adopt(document);
  for (const kind of ["pointerover", "pointerdown", "focusin"]) document.addEventListener(kind, show);
  const hide = () => { tip.hidden = true; };
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  addEventListener("beforeprint", () => all("details.case").forEach((each) => { each.open = true; }));

  // Sorting: the columns' heads become buttons; on a phone, where there are none, a list.
  const board = document.querySelector(".leaderboard");
  const heads = all("thead th", board);
  const value = (row, column) => {
    const text = row.children[column].dataset.sort ?? "";
    return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  const sort = (column, down) => {
    const rows = all("tbody tr", board);
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    });
    board.tBodies[0].append(...rows);
    heads.forEach((head, at) => {
      if (at === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  const sortable = heads.map((head, at) => [head, at]).filter(([head]) => !head.classList.contains("axis"));
  const startsDown = (head, at) => at >= 3 && at <= 5;
  const list = document.createElement("select");
  for (const [head, at] of sortable) {
    const name = head.textContent.trim();
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(at, now ? now === "ascending" : startsDown(head, at));
      list.value = String(at);
    });
    head.replaceChildren(button);
    list.append(new Option(name === "#" ? "Place" : name, String(at)));
  }
  list.addEventListener("change", () => {
    const at = Number(list.value);
    sort(at, startsDown(heads[at], at));
  });
  const label = document.createElement("label");
  label.className = "sortby";
  label.append("Sorted by ", list);
  board.before(label);

  // Two rows against each other: the same counts and bins as charts.py makes for the first pair.
  const form = document.querySelector("form.pick");
  if (form) {
    const data = JSON.parse(document.getElementById("pair-data").textContent);
    const bins = all(".histogram .bin");
    form.hidden = false;
    const draw = () => {
      const [first, second] = [form.elements.first.value, form.elements.second.value];
      const [a, b] = [data.values[first], data.values[second]];
      const counts = bins.map(() => 0);
      let [wins, ties, losses] = [0, 0, 0];
      a.forEach((one, at) => {
        if (one === null || b[at] === null) return;
        const apart = one - b[at];
        if (Math.abs(apart) < 1e-9) { ties += 1; return; }
        if (apart > 0) wins += 1; else losses += 1;
        const bin = Math.floor(((apart + 1) * counts.length) / 2);
        counts[Math.min(counts.length - 1, Math.max(0, bin))] += 1;
      });
      const most = Math.max(...counts, 1);
      bins.forEach((bin, at) => {
        const high = (86 * counts[at]) / most;
        const [bar, text] = [bin.querySelector("rect"), bin.querySelector("text")];
        bar.setAttribute("y", `${100 - high}%`);
        bar.setAttribute("height", `${high}%`);
        text.setAttribute("y", `${100 - high}%`);
        text.textContent = counts[at] || "";
        bin.dataset.tip = `${counts[at]} users, ${data.labels[at]}`;
      });
      document.getElementById("count-wins").textContent = wins;
      document.getElementById("count-ties").textContent = ties;
      document.getElementById("count-losses").textContent = losses;
      document.getElementById("pair-verdict").textContent =
        data.verdicts[first]?.[second] ?? plain(a, b);
      for (const span of all("#wins [data-name]")) {
        span.textContent = span.dataset.name === "first" ? first : second;
      }
    };
    const plain = (a, b) => {
      const apart = a.map((one, at) => one === null || b[at] === null ? null : one - b[at]).filter((d) => d !== null);
      const mean = apart.reduce((sum, one) => sum + one, 0) / Math.max(1, apart.length);
      const size = Math.abs(mean).toFixed(3).replace(/^0/, "");
      const sign = Number(size) === 0 ? "" : mean < 0 ? MINUS : "+";
      return `${sign}${size}; not compared by a test`;
    };
    form.addEventListener("change", draw);
  }

  // The command can be taken along.
  const command = document.querySelector(".command");
  if (command && navigator.clipboard) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.querySelector("code").textContent);
      button.textContent = "Copied";
    });
    command.append(button);
  }
})();
