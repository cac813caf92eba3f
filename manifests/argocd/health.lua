-- Health of an InferenceModel, ModelBuild or HardwareProfile for Argo CD, in the words of kstatus:
-- first the generation, then Reconciling and Stalled, which exist only while true, then Ready.
-- What waits for a person on purpose is Suspended, not Progressing.

local WAITS_FOR_A_PERSON = { Suspended = true, AwaitingApproval = true }

local function health(status, message)
  return { status = status, message = message or "" }
end

local function find_condition(conditions, wanted)
  for _, condition in ipairs(conditions) do
    if condition.type == wanted then
      return condition
    end
  end
  return nil
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted")
end

if obj.status == nil then
  return health("Progressing", "the operator has not seen it yet")
end

local observed = obj.status.observedGeneration
if observed ~= nil and observed ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen this generation yet")
end

local conditions = obj.status.conditions or {}
for _, condition in ipairs(conditions) do
  if condition.type == "Reconciling" and condition.status == "True" then
    return health("Progressing", condition.message)
  end
  if condition.type == "Stalled" and condition.status == "True" then
    return health("Degraded", condition.message)
  end
end

local ready = find_condition(conditions, "Ready")
if ready == nil then
  return health("Progressing", "no condition Ready yet")
end
if WAITS_FOR_A_PERSON[ready.reason] then
  return health("Suspended", ready.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
return health("Progressing", ready.message)
