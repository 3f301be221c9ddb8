// Any two experiments: everything was computed before, this looks it up and shows it.
(() => {
  const box = document.getElementById("chooser");
  if (!box) return;
  const pairs = JSON.parse(document.getElementById("pairs").textContent);
  const answer = document.getElementById("chooser-answer");
  const selects = ["chooser-first", "chooser-second"].map((id) => document.getElementById(id));
  const MOST_RUNS = 20;

  const element = (tag, content, className) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...[content ?? []].flat());
    return made;
  };
  const signed = (tenths) => {
    const text = (Math.abs(tenths) / 10).toFixed(1);
    return (tenths < 0 ? "−" : "+") + text;
  };

  // The pairs of n experiments stand as 0-1, 0-2, ..., 1-2, ...
  const lookUp = (group, one, two) => {
    const members = pairs.group.filter((other) => other === group).length;
    const [low, high] = one < two ? [one, two] : [two, one];
    const place = low * members - (low * (low + 1)) / 2 + (high - low - 1);
    const turn = (value) => (value === null || one < two ? value : -value || 0);
    const [mean, from, to] = ["mean", "low", "high"].map((name) => pairs[name][group][place]);
    const [start, end] = one < two ? [from, to] : [to, from];
    return { mean: turn(mean), low: turn(start), high: turn(end), p: pairs.p[group][place] };
  };

  const strip = ({ mean, low, high }, gaps) => {
    const reach = Math.max(100, ...[mean, low ?? 0, high ?? 0, ...gaps].map(
      (value) => 100 * Math.ceil(Math.abs(value) / 100)));
    const place = (value) => `${Math.min(100, Math.max(0, 50 + (50 * value) / reach)).toFixed(1)}%`;
    const line = element("div", [], "strip");
    const put = (tag, style) => Object.assign(line.appendChild(element(tag)).style, style);
    put("s", { left: place(0) });
    gaps.forEach((gap) => put("i", { left: place(gap) }));
    if (low !== null) put("b", { left: place(low), right: `calc(100% - ${place(high)})` });
    put("u", { left: place(mean) });
    line.setAttribute("aria-hidden", "true");
    const end = (reach / 10).toFixed(0);
    const axis = element("div", [element("span", `−${end}`), element("span", "0"),
      element("span", `+${end} points`)], "axis");
    axis.setAttribute("aria-hidden", "true");
    return [line, axis];
  };

  const runTable = (names, runs, videos, right) => {
    const percent = (count, at) => ((100 * count) / videos[at]).toFixed(1);
    const cell = (value) => element("td", value, "number");
    const head = (text, scope, className) => {
      const made = element("th", text, className);
      made.scope = scope;
      return made;
    };
    const rows = runs.map((run, at) => element("tr", [head(run, "row"), cell(percent(right[0][at], at)),
      cell(percent(right[1][at], at)),
      cell(signed((1000 * (right[0][at] - right[1][at])) / videos[at]))]));
    const heads = [head("run", "col"), ...[...names.map((name) => `${name}, %`), "difference"].map(
      (name) => head(name, "col", "number"))];
    const table = element("table", [element("thead", element("tr", heads)), element("tbody", rows)]);
    const scroll = element("div", table, "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Run by run");
    return element("details", [element("summary", "Run by run"), scroll]);
  };

  const show = () => {
    const [one, two] = selects.map((select) => Number(select.value));
    const names = [pairs.names[one], pairs.names[two]];
    if (one === two) return [element("p", "Choose two experiments.", "note")];
    const group = pairs.group[one];
    if (group !== pairs.group[two]) {
      const key = [group, pairs.group[two]].sort((a, b) => a - b).join(",");
      // A reason speaks of the first group's experiment as {first}.
      const [first, second] = group < pairs.group[two] ? names : [...names].reverse();
      const reason = pairs.reasons[key] ?? pairs.reasons[""];
      const text = reason.replaceAll(/\{(first|second)\}/g,
        (whole, which) => (which === "first" ? first : second));
      return [element("p", [element("strong", "Not to be compared: "), text], "warn")];
    }
    const found = lookUp(group, pairs.place[one], pairs.place[two]);
    const runs = pairs.runs[group], videos = pairs.videos[group];
    const right = [pairs.right[one], pairs.right[two]];
    const gaps = videos.map((count, at) => (1000 * (right[0][at] - right[1][at])) / count);
    const corrected = runs.length > 1;
    const sure = found.low === null
      ? "the same in every run: no interval and no p"
      : `${corrected ? "corrected " : ""}95 % interval ${signed(found.low)} to ${signed(found.high)}, `
        + (found.p === 0 ? "p < 0.001" : `p = ${(found.p / 1000).toFixed(3)}`);
    const by = corrected ? `${runs.length} runs, which share videos` : "the videos of the single split";
    const [ours, theirs] = [pairs.tried[one], pairs.tried[two]];
    const unlike = ours === theirs ? [] : [element("p", [element("strong", "Not compared alike: "),
      `settings tried: ${ours} of ${names[0]}, ${theirs} of ${names[1]}; `
      + "the difference is of the search too."], "warn")];
    return [
      element("p", [element("strong", `${signed(found.mean)} points`), `: ${sure}`], "difference"),
      ...unlike,
      ...strip(found, gaps),
      element("p", `${names[0]} less ${names[1]}, by ${pairs.tests[group]} over ${by}.`, "note"),
      ...(runs.length <= MOST_RUNS ? [runTable(names, runs, videos, right)] : []),
    ];
  };

  selects.forEach((select, at) => {
    select.append(...pairs.names.map((name, value) => new Option(name, value)));
    select.value = pairs.start[at];
    select.addEventListener("change", () => answer.replaceChildren(...show()));
  });
  answer.replaceChildren(...show());
  box.hidden = false;
})();
