// Interactive figures of the page: draw them, follow light and dark, and give their sliders to the
// browser's own range input, which obeys the keyboard.
(() => {
  const root = document.documentElement;
  const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const light = {
    "#1b1b1b": "ink", "#767676": "grey", "#0072b2": "blue", "#d55e00": "vermillion",
    "#00875f": "green", "#a8518a": "purple", "#a06a00": "gold",
  };

  // Replace the house colours, wherever they stand in a trace, by the page's present shades.
  function themed(value) {
    if (typeof value === "string") {
      const name = light[value.toLowerCase()];
      return name ? variable(`--dy33-${name}`) : value;
    }
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
    }
    return value;
  }

  function themedLayout(layout) {
    const ink = variable("--dy33-ink"), rule = variable("--dy33-rule");
    const result = {...themed(layout), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {...(layout.font || {}), color: ink}, sliders: []};
    for (const key of Object.keys(result)) {
      if (/^[xy]axis\d*$/.test(key)) {
        result[key] = {...result[key], gridcolor: rule, zerolinecolor: rule, linecolor: ink,
          tickcolor: ink};
      }
    }
    return result;
  }

  function draw(figure) {
    const plot = figure.querySelector(".dy33-plot");
    const spec = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const config = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["toImage"]};
    const state = {step: null};
    const slider = (spec.layout.sliders || [])[0];

    const traces = () => {
      const data = themed(spec.data);
      const change = state.step === null ? null : slider.steps[state.step].args[0];
      if (change && change.visible) data.forEach((t, i) => { t.visible = change.visible[i]; });
      return data;
    };
    const redraw = () => Plotly.react(plot, traces(), themedLayout(spec.layout), config);

    if (slider) {
      state.step = slider.active || 0;
      const row = document.createElement("div");
      row.className = "dy33-slider";
      const id = `${figure.id}-slider`;
      const label = document.createElement("label");
      label.htmlFor = id;
      label.textContent = (slider.currentvalue || {}).prefix || "";
      const input = document.createElement("input");
      Object.assign(input, {type: "range", id, min: 0, max: slider.steps.length - 1, step: 1,
        value: state.step});
      const shown = document.createElement("output");
      shown.htmlFor = id;
      const tell = () => {
        shown.textContent = slider.steps[state.step].label;
        input.setAttribute("aria-valuetext", slider.steps[state.step].label);
      };
      input.addEventListener("input", () => { state.step = Number(input.value); tell(); redraw(); });
      tell();
      row.append(label, input, shown);
      plot.before(row);
    }
    redraw();
    new MutationObserver(redraw).observe(root, {attributes: true, attributeFilter: ["data-theme"]});
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("figure.dy33-interactive").forEach(draw);
  });
})();
