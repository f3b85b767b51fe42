-- docs/opt-outs.md of policy-baseline explains the condition.
-- Reasons of InForce that the operator leaves within seconds, and those that say that the opt-out is refused until somebody changes it. With
-- any other reason, the opt-out is over, or waits, or has nothing to take away.
local verdicts = {
  NotProcessed = "Progressing",
  RemovingPolicies = "Progressing",
  RestoringPolicies = "Progressing",
  Deleting = "Progressing",
  TooLong = "Degraded",
  PolicyNotAllowed = "Degraded",
  OlderThanNamespace = "Degraded",
  Undecodable = "Degraded",
}

local status = obj.status
if type(status) ~= "table" or type(status.conditions) ~= "table" then
  return { status = "Progressing", message = "No operator has processed this BaselineOptOut yet" }
end
local generation = obj.metadata.generation
if status.observedGeneration ~= nil and generation ~= nil and status.observedGeneration ~= generation then
  return { status = "Progressing", message = "The operator has not processed the present spec yet" }
end

local inForce = nil
for _, condition in pairs(status.conditions) do
  if type(condition) == "table" and condition.type == "InForce" then
    inForce = condition
  end
end
if inForce == nil then
  return { status = "Progressing", message = "The condition InForce is missing" }
end
local verdict = "Suspended"
if inForce.reason ~= nil and verdicts[inForce.reason] ~= nil then
  verdict = verdicts[inForce.reason]
elseif inForce.status == "True" then
  verdict = "Healthy"
elseif inForce.status ~= "False" then
  verdict = "Progressing"
end
return { status = verdict, message = inForce.message or "" }
