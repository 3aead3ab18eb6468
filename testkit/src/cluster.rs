//! Several nodes joined to a cluster.

use std::time::Duration;

use crate::{Node, eventually, unique};

/// Nodes that know each other; index 0 is the one that the others joined.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, to be killed and frozen one by one.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts `count` nodes and joins them.
    pub async fn start(count: usize) -> Self {
        let cookie = unique("cluster");
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node = Node::builder()
                .cookie(&cookie)
                // Nodes that are killed and frozen on purpose are noticed sooner.
                .config("cluster_partition_handling = ignore")
                .config("net_ticktime = 5")
                .start()
                .await;
            nodes.push(node);
        }
        let first = nodes[0].node_name();
        for node in &nodes[1..] {
            for arguments in [vec!["stop_app"], vec!["join_cluster", &first], vec!["start_app"]] {
                node.ctl(&arguments).await.expect("a fresh node joins");
            }
        }
        let cluster = Self { nodes };
        eventually("all nodes are in the cluster", Duration::from_secs(60), || async {
            let running = "length(rabbit_nodes:all_running()).";
            cluster.nodes[0].eval(running).await.is_ok_and(|answer| answer.trim() == count.to_string())
        })
        .await;
        cluster
    }

    /// One URI with all nodes.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("amqp://guest:guest@{}", hosts.join(","))
    }
}
