-- The shop's orders on MariaDB or MySQL. `updated_at` is the version: the dual-write library stamps it.
CREATE TABLE IF NOT EXISTS orders (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id BIGINT NOT NULL,
  amount DECIMAL(12,2) NOT NULL,
  note VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status ENUM('new','paid','shipped','cancelled') NOT NULL,
  write_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at DATETIME(3) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  KEY orders_user (user_id),
  KEY orders_version (updated_at, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
