// Puts the page together: the parts, and what reaches each of them.

import { Charts } from "./charts.js";
import { EventLog } from "./event_log.js";
import { FrameTraces } from "./frame_traces.js";
import { HealthBar } from "./health.js";
import { Parameters } from "./parameters.js";
import { Publish } from "./publish.js";
import { Service } from "./service.js";
import { Streams } from "./streams.js";
import { keepTheme } from "./theme.js";
import { askForToken, keptToken } from "./token_dialog.js";
import { Topology } from "./topology.js";
import { follow } from "./updates.js";
import { VideoView } from "./video_view.js";
import { Waterfall } from "./waterfall.js";

// Supervision events after which the plan may be another one.
const TURNING_POINTS = new Set(["active", "ready", "updated", "reloaded", "stream_started", "stream_stopped"]);
const SETTLE_MS = 150;

const byId = (id) => document.getElementById(id);

function start() {
  keepTheme(byId("theme"));
  const service = new Service(keptToken(), askForToken);
  const health = new HealthBar(byId("health"), byId("equation"));
  const events = new EventLog(byId("events"));
  const topology = new Topology(byId("topology"), (stage) => restart(service, events, stage));
  const waterfall = new Waterfall(byId("waterfall"));
  const frames = new FrameTraces(byId("frames"));
  const charts = new Charts(byId("charts"));
  const parameters = new Parameters(byId("parameters"), service);
  const streams = new Streams(byId("streams"), service);
  const publish = new Publish(byId("publish"), service);
  const video = new VideoView(
    byId("video"),
    service,
    (latency) => {
      waterfall.measured(latency);
      charts.measured(latency);
    },
    (stream) => {
      parameters.of(stream);
      streams.pause.of(stream);
    },
  );
  globalThis.livepipe = { service, video, charts }; // For a look from the browser's console.
  const parts = [health, topology, video, waterfall, charts, parameters, streams];
  const planned = [topology, video, parameters, streams, publish];

  let due = null;
  function readPlan() {
    due ??= setTimeout(async () => {
      due = null;
      try {
        const plan = await service.get("/plan");
        byId("pipeline-name").textContent = plan.pipeline;
        document.title = `${plan.pipeline} · livepipe`;
        for (const part of planned) part.plan(plan);
      } catch (problem) {
        health.lost(problem.message);
      }
    }, SETTLE_MS);
  }

  const hear = {
    connected() {
      events.clear();
      readPlan();
    },
    look(look) {
      for (const part of parts) part.show(look);
    },
    traces(traces) {
      waterfall.traces(traces);
      frames.show(traces);
    },
    hardware(stats) {
      topology.hardware(stats);
      charts.hardware(stats);
    },
    event(event) {
      events.add(event);
      charts.event(event);
      if (TURNING_POINTS.has(event.name)) readPlan();
    },
  };
  follow(
    service,
    (kind, content) => hear[kind]?.(content),
    (problem) => health.lost(problem),
  );
}

async function restart(service, events, stage) {
  try {
    await service.post(`/stages/${encodeURIComponent(stage)}/restart`);
  } catch (problem) {
    const fields = { problem: problem.text ?? problem.message };
    events.add({ time: Date.now() / 1000, level: "error", stage, name: "restart_refused", fields });
  }
}

start();
