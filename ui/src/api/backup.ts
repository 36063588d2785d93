import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { get, post } from "./client";

export interface BackupInfo {
  id: string;
  time: string;
  node: string;
  files: number;
  bytes: number;
}
export interface BackupStatus {
  configured: boolean;
  /** Why nobody is notified since a restore. */
  quiet?: string;
  upload?: { pending: number; uploaded: number; last_success?: string; error?: string } | null;
  backups: BackupInfo[] | null;
  error?: string;
}
export interface BackupMade {
  id: string;
  files: number;
  bytes: number;
  uploaded: number;
  /** There only once, with the first backup. */
  recovery_key?: string;
}

export const useBackups = () =>
  useQuery({
    queryKey: ["backup"],
    queryFn: ({ signal }) => get<BackupStatus>("v1/backup", {}, signal),
    refetchInterval: 60_000,
  });

export function useMakeBackup() {
  const qc = useQueryClient();
  return useMutation({
    mutationFn: () => post<BackupMade>("v1/backup"),
    // The key is shown once: it is not left in the cache.
    gcTime: 0,
    onSettled: () => qc.invalidateQueries({ queryKey: ["backup"] }),
  });
}
