"use strict";
// Names come from reports and networks: everything is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const layers = [...document.getElementById("layer").options].slice(1).map((option) => option.text);
  const controls = Object.fromEntries(["layer", "search", "sort", "none"].map((id) => [id, document.getElementById(id)]));
  const perPage = 30;
  let page = 0;
  let found = data.units;

  const element = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const kept = (unit) => unit.c.filter((concept) => concept[2]);
  const name = (unit) => unit.m || (kept(unit).length ? data.terms[unit.c[0][0]] : "no concept");
  const words = (unit) => [...kept(unit).map((concept) => data.terms[concept[0]]), unit.o, unit.m || ""].join(" ; ").toLowerCase();
  const orders = {
    unit: (a, b) => a.l - b.l || a.u - b.u,
    score: (a, b) => (kept(b).length ? b.c[0][1] : -9) - (kept(a).length ? a.c[0][1] : -9),
    name: (a, b) => !kept(a).length - !kept(b).length || name(a).localeCompare(name(b)),
    examples: (a, b) => b.n - a.n,
  };

  // What the method says of a kept concept: effect, false discovery rate, share of draws of patients, sense, purity.
  const certainty = ([effect, q, stability, sense, purity]) => {
    const said = [];
    if (effect !== null) said.push(`effect ${effect.toFixed(2)}`);
    if (q !== null) said.push(q < 0.001 ? "q < 0.001" : `q ${q.toFixed(3)}`);
    if (stability !== null) said.push(`kept in ${Math.round(100 * stability)} % of draws`);
    if (sense) said.push(`sense ${sense}` + (purity === null ? "" : `, purity ${purity.toFixed(2)}`));
    return said.join(" · ");
  };

  const concepts = (unit) => {
    const list = element("ol", "concepts");
    const best = unit.c.length ? Math.max(Math.abs(unit.c[0][1]), 1e-9) : 1;
    for (const [term, score, isKept, sure] of unit.c.slice(0, Math.max(6, Math.min(kept(unit).length, 12)))) {
      const item = element("li", isKept ? "kept" : "next");
      const track = element("span", "track");
      const fill = element("i");
      fill.style.width = `${Math.max(0, Math.min(100, (100 * score) / best))}%`;
      track.append(fill);
      item.append(element("span", "", data.terms[term]), track, element("span", "num", score === null ? "" : score.toFixed(3)));
      if (sure) item.append(element("small", "sure", certainty(sure)));
      list.append(item);
    }
    return list;
  };

  const films = (unit) => {
    const box = element("div", "films");
    if (unit.w) box.append(element("p", "reason", `Pictures withheld: ${unit.w}.`));
    for (const [film, activation] of unit.f) {
      const figure = element("figure");
      if (data.pictures[film] && !unit.w) {
        const picture = element("img");
        picture.src = data.pictures[film];
        picture.alt = `example film ${data.films[film]}`;
        picture.loading = "lazy";
        figure.append(picture);
      }
      const caption = element("figcaption", "", data.films[film].slice(0, 11));
      caption.title = data.films[film];
      caption.append(element("br"), `activation ${activation}`);
      figure.append(caption);
      box.append(figure);
    }
    return box;
  };

  const card = (unit) => {
    const article = element("article");
    const title = element("h2");
    title.append(element("span", "id", `${layers[unit.l]}:${unit.u}`), element("span", "", name(unit)));
    if (unit.o) title.append(element("span", "out", `output of the network: ${unit.o}`));
    article.append(title);
    if (unit.r) article.append(element("p", "reason", `No concept: ${unit.r}.`));
    article.append(concepts(unit), films(unit));
    const more = [`${unit.n} example${unit.n === 1 ? "" : "s"}`, `activation ${unit.a[0]} to ${unit.a[1]}`];
    const hidden = kept(unit).length - 12;
    if (hidden > 0) more.push(`${hidden} more concepts kept`);
    article.append(element("p", "more", more.join(" · ")));
    return article;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(found.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    document.getElementById("list").replaceChildren(...found.slice(page * perPage, (page + 1) * perPage).map(card));
    document.getElementById("count").textContent = `${found.length.toLocaleString("en")} units`;
    document.getElementById("page").textContent = `page ${page + 1} of ${pages}`;
    document.getElementById("back").disabled = page === 0;
    document.getElementById("next").disabled = page === pages - 1;
  };

  const filter = () => {
    const layer = controls.layer.value;
    const wanted = controls.search.value.toLowerCase().split(/[\s,;]+/).filter(Boolean);
    found = data.units
      .filter((unit) => layer === "" || unit.l === Number(layer))
      .filter((unit) => !controls.none.checked || !kept(unit).length)
      .filter((unit) => {
        const text = wanted.length ? words(unit) : "";
        return wanted.every((word) => text.includes(word));
      })
      .sort(orders[controls.sort.value]);
    page = 0;
    draw();
  };

  for (const control of Object.values(controls)) control.addEventListener("input", filter);
  const turn = (step) => () => {
    page += step;
    draw();
    document.getElementById("units").scrollIntoView();
  };
  document.getElementById("back").addEventListener("click", turn(-1));
  document.getElementById("next").addEventListener("click", turn(1));
  filter();
})();
