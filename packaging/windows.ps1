# In a PowerShell that runs as administrator:
$ErrorActionPreference = 'Stop'
$program = Join-Path $env:ProgramFiles 'Panoptes Agent'
$data = Join-Path $env:ProgramData 'Panoptes Agent'
New-Item -ItemType Directory -Force $program, $data | Out-Null
icacls $data /inheritance:r /grant 'SYSTEM:(OI)(CI)F' 'Administrators:(OI)(CI)F' | Out-Null
$exe = Join-Path $program 'panoptes-agent.exe'
Stop-ScheduledTask -TaskName 'Panoptes Agent' -ErrorAction SilentlyContinue
Invoke-WebRequest -UseBasicParsing 'https://panoptes.example/agent/windows/amd64' -OutFile "$exe.new"
if ((Get-FileHash "$exe.new" -Algorithm SHA256).Hash -ne '0000000000000000000000000000000000000000000000000000000000000000') { Remove-Item "$exe.new"; throw 'the program was changed on the way: wrong SHA-256' }
Move-Item -Force "$exe.new" $exe
Set-Content -Encoding ascii (Join-Path $data 'agent.yml') "join: 'panoptes.example:9701'`ntoken: 'TOKEN'"
$run = New-ScheduledTaskAction -Execute $exe -Argument "--config `"$data\agent.yml`""
$always = New-ScheduledTaskSettingsSet -ExecutionTimeLimit 0 -RestartCount 999 -RestartInterval (New-TimeSpan -Minutes 1) -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
Register-ScheduledTask -Force -TaskName 'Panoptes Agent' -Action $run -Settings $always -Trigger (New-ScheduledTaskTrigger -AtStartup) -User 'SYSTEM' -RunLevel Highest | Out-Null
Start-ScheduledTask -TaskName 'Panoptes Agent'
