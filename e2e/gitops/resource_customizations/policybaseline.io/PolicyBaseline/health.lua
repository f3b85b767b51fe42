-- docs/status.md of policy-baseline explains the conditions.
-- Reasons of Ready that are neither True nor work under way. With any other reason, the operator is at work.
local verdicts = {
  Suspended = "Suspended",                  -- spec.suspend is true
  AwaitingConfirmation = "Suspended",       -- a change waits until its owner confirms it
  RolloutPaused = "Degraded",               -- no further wave begins before the owner acts
  WritesFailing = "Degraded",
  MissingWhileTerminating = "Degraded",
  ControlPlaneBlocked = "Degraded",
  WatchFailing = "Degraded",                -- the status may be out of date
}

local status = obj.status
if type(status) ~= "table" or type(status.conditions) ~= "table" then
  return { status = "Progressing", message = "No operator has processed this PolicyBaseline yet" }
end
local generation = obj.metadata.generation
if status.observedGeneration ~= nil and generation ~= nil and status.observedGeneration ~= generation then
  return { status = "Progressing", message = "The operator has not processed the present spec yet" }
end

local found = {}
for _, condition in pairs(status.conditions) do
  if type(condition) == "table" and condition.type ~= nil then
    found[condition.type] = condition
  end
end

local stalled = found.Stalled
if stalled ~= nil and stalled.status == "True" then
  return { status = "Degraded", message = stalled.message or "" }
end
local ready = found.Ready
if ready == nil then
  return { status = "Progressing", message = "The condition Ready is missing" }
end
local verdict = "Progressing"
if ready.status == "True" then
  verdict = "Healthy"
elseif ready.reason ~= nil and verdicts[ready.reason] ~= nil then
  verdict = verdicts[ready.reason]
end
return { status = verdict, message = ready.message or "" }
