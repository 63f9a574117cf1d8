"use strict";
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const shown = new Map(); // element of a figure -> its Bokeh model

  const colour = (value) => (night.matches && Object.hasOwn(settings.dark, value) ? settings.dark[value] : value);
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  const parts = (model, test) => [...model.references()].filter(test);

  const toggle = (model) => {
    for (const part of parts(model, (one) => (one.tags || []).some((tag) => String(tag).startsWith("arm:")))) {
      part.visible = !part.tags.some((tag) => hidden.has(tag));
    }
  };

  const fill = (model, choice) => {
    const kinds = choice.kind.map((kind) => settings.kinds[kind]);
    const source = parts(model, (one) => one.name === "spans" && "data" in one)[0];
    source.data = {
      left: choice.left, right: choice.right, top: choice.top, bottom: choice.bottom, bytes: choice.bytes,
      layer: choice.layer.map((layer) => (layer < 0 ? "all" : String(layer))),
      colour: kinds.map((kind) => colour(kind.colour)),
      hatch: kinds.map((kind) => kind.hatch),
      what: kinds.map((kind) => kind.label),
      unit: choice.left.map(() => choice.unit),
    };
    model.x_range.setv({start: 0, end: choice.end});
    model.y_range.setv({start: choice.rows, end: 0});
    model.below[0].axis_label = `time since the request's first span (${choice.unit})`;
    const axis = model.left[0];
    axis.ticker.ticks = choice.ticks;
    axis.major_label_overrides = new Map(choice.ticks.map((tick, place) => [tick, choice.names[place]]));
  };

  const choose = (figure, model) => {
    const select = figure.querySelector("select");
    if (!select) return;
    const choice = read(select.dataset.choices)[Number(select.value)];
    fill(model, choice);
    figure.querySelector(".said").textContent = choice.title;
  };

  const draw = async (figure) => {
    const place = figure.querySelector(".plot");
    figure.classList.add("on"); // before drawing: a hidden element has no width
    try {
      place.replaceChildren();
      const item = JSON.parse(document.getElementById(place.dataset.figure).textContent, (_, value) => (typeof value === "string" ? colour(value) : value));
      const views = await Bokeh.embed.embed_item(item, place);
      const model = [...views.roots][0].model;
      shown.set(figure, model);
      if (window.matchMedia("(pointer: fine)").matches) {
        const zoom = parts(model, (one) => one.type === "BoxZoomTool")[0];
        if (zoom) zoom.active = true;
      }
      toggle(model);
      choose(figure, model);
    } catch (error) {
      figure.classList.remove("on"); // the static picture is there
      console.error(error);
    }
  };

  const drawAll = async () => {
    for (const figure of document.querySelectorAll(".figure")) if (figure.querySelector(".plot")) await draw(figure);
    document.documentElement.dataset.ready = "yes";
  };

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.dataset.arm !== undefined) {
      const tag = `arm:${box.dataset.arm}`;
      if (box.checked) hidden.delete(tag); else hidden.add(tag);
      for (const other of document.querySelectorAll(`input[data-arm="${box.dataset.arm}"]`)) other.checked = box.checked;
      for (const model of shown.values()) toggle(model);
    } else if (box.dataset.choices !== undefined) {
      const figure = box.closest(".figure");
      choose(figure, shown.get(figure));
    }
  });
  window.addEventListener("beforeprint", () => {
    for (const more of document.querySelectorAll("details")) more.open = true;
  });
  night.addEventListener("change", drawAll);
  Bokeh.logger.set_level("error");
  drawAll();
})();
