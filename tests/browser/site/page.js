"use strict";
// What a person did survives a morph: the text being typed, ticks, and what was opened.
Idiomorph.defaults.ignoreActiveValue = true;
const kept = { INPUT: ["checked"], DETAILS: ["open"] };
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !kept[node.tagName]?.includes(name);

const line = { label: "rate", stroke: "rgb(255, 0, 0)", width: 2 };
const points = [[1, 2, 3], [1, 3, 2]];
new uPlot({ width: 400, height: 200, series: [{}, line] }, points, document.getElementById("plot"));
